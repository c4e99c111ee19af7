"""What the service keeps, how much room there is, and what a worker will remove by itself."""

from __future__ import annotations

import shutil

from archsearch import storage

from ..deps import Services, ServicesDep
from ..room import Room
from ..schemas import AmountAnswer, StorageAnswer

router = Room(prefix="/storage", tags=["storage"])


@router.get("")
async def get(services: ServicesDep) -> StorageAnswer:
    """Bytes by kind, those that nothing needs any more among them, and free bytes on the disk."""
    return await services.storage(lambda: _look(services))


def _look(services: Services) -> StorageAnswer:
    """Walks through everything, which takes its time."""
    store = storage.Store(services.sessions, services.files)
    prunable: dict[str, AmountAnswer] = {}
    for item in storage.waste(store, storage.Retention.of(services.settings)):
        before = prunable.get(item.kind, AmountAnswer(count=0, bytes=0))
        prunable[item.kind] = AmountAnswer(count=before.count + 1, bytes=before.bytes + item.size_bytes)
    kept = {kind: AmountAnswer.model_validate(amount) for kind, amount in storage.usage(store).items()}
    return StorageAnswer(kept=kept, prunable=prunable, free_bytes=shutil.disk_usage(services.files.root).free)
