"""A worker's process, before it has anything to do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.service.server import ROOT, clean, wait


def test_a_worker_that_waits_for_its_database_says_what_the_database_says(postgres_url: str, tmp_path: Path) -> None:
    environment = clean(
        {
            "ARCHSEARCH_DATA_DIR": str(tmp_path / "data"),
            "ARCHSEARCH_DATABASE_URL": postgres_url.replace("@/t", "@/misspelt"),
        }
    )
    log = tmp_path / "log"
    with (
        log.open("w") as out,
        subprocess.Popen(
            [sys.executable, "-m", "archsearch", "worker"], cwd=ROOT, env=environment, stdout=out, stderr=out
        ) as worker,
    ):
        try:
            wait(lambda: "waiting" in log.read_text() or worker.poll() is not None, log.read_text)
        finally:
            worker.kill()
    assert 'database "misspelt' in log.read_text()
    assert "does not exist" in log.read_text()
