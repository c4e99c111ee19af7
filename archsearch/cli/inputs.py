"""From flags and files to a `JobRequest`."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import click
import yaml

from archsearch import domains
from archsearch.cli.followup import Ask, follow_up, rebased
from archsearch.client import Client
from archsearch.device import PATTERN, check_name
from archsearch.errors import InvalidRequest
from archsearch.hardware.devices import devices as latency_devices
from archsearch.plain import read_yaml
from archsearch.request import (
    LIMITS,
    Few,
    FileData,
    Fit,
    JobRequest,
    LocalTeacher,
    OnBroken,
    OnDuplicates,
    RegisteredTeacher,
    parse_request,
)
from archsearch.unit import unit_of, written

__all__ = [
    "build_request",
    "data_of",
    "device_option",
    "image_options",
    "images_again",
    "json_of",
    "on_broken_option",
    "request_options",
    "send_local_parts",
    "settings_of",
    "size_of",
    "teacher_of",
    "with_images",
]

F = TypeVar("F", bound=Callable[..., Any])
_SAID_EVERY_S = 30.0


def size_of(ctx: click.Context, param: click.Parameter, value: str | None) -> int | list[int] | None:
    """A side in pixels, or height×width."""
    if value is None:
        return None
    sides = re.fullmatch(r"(\d{1,5})(?:[x×](\d{1,5}))?", value)
    if sides is None:
        raise click.BadParameter(f"{value!r}: give a side in pixels, such as 224, or height x width: 224x160")
    height, width = sides.groups()
    return int(height) if width is None else [int(height), int(width)]


on_broken_option = click.option(
    "--on-broken", type=click.Choice(get_args(OnBroken)),
    help="What images that cannot be read do: refuse the data, or be left out.  [default: refuse]",
)  # fmt: skip
device_option = click.option(
    "--device",
    default="auto",
    callback=lambda ctx, param, value: device_of(value),
    help="Where it is computed: auto, cpu, cuda, or a GPU by its number: cuda:1.  [default: auto]",
)


def device_of(value: str) -> str:
    """What `--device` says, as far as that is a device at all."""
    try:
        return check_name(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


_IMAGES = (
    click.option("--image-size", callback=size_of, metavar="PIXELS", help="Size all images of a folder or .zip become: "
                 "a side, or height x width, such as 224x160."),
    click.option("--fit", type=click.Choice(get_args(Fit)), help="How images of another shape become so: the most of "
                 "their centre, all of them with white beside, or out of proportion.  [default: crop]"),
    on_broken_option,
    click.option("--duplicates", type=click.Choice(get_args(OnDuplicates)), help="What images do that are there twice: "
                 "refuse the data if many, only warn, or be dropped.  [default: refuse]"),
)  # fmt: skip


def _count(_context: click.Context, _parameter: click.Parameter, value: str | None) -> int | str | None:
    """A number as one; any other word is the request's to judge."""
    return int(value) if value is not None and value.isdigit() else value


def _limits(kind: type[int] | type[float]) -> Callable[..., Any]:
    """One limit, or several with commas between: a student for each."""

    def read(_context: click.Context, _parameter: click.Parameter, value: str | None) -> Any:
        if value is None:
            return None
        try:
            found = [kind(part) for part in value.split(",")]
        except ValueError:
            noun = "a whole number" if kind is int else "a number"
            raise click.BadParameter(f"{value!r}: give {noun}, or several with commas between") from None
        return found if len(found) > 1 else found[0]

    return read


def _limit(flag: str, kind: type[int] | type[float], about: str) -> Callable[[F], F]:
    return click.option(flag, callback=_limits(kind), metavar="MOST[,MOST]…", help=about)


_OPTIONS = (
    click.option("--request", "-f", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
                 help="YAML or JSON file with a whole request; flags override it."),
    click.option("--teacher", "-t", help="timm model name, hf-hub:owner/name, a folder of timm or transformers, an "
                 ".onnx file, or a teacher id (tch_…)."),
    click.option("--head", help="What becomes of the teacher's answers: keep; probe, which fits it a head for the "
                 "data's classes; or none, whose features alone teach.  [default: keep]"),
    click.option("--data", "-d", help="digits, an .npz file, a folder or .zip of class folders or of images "
                 "with a labels.csv, texts (.csv, .tsv, .jsonl), or an id (ds_…)."),
    _limit("--params", int, "Most parameters the student may have; as of every limit, several are students side by "
           "side: 90000,40000."),
    click.option("--students", type=int, help="So many students side by side: within the limit, a half of it, a "
                 "quarter, and so on.  [default: 1]"),
    _limit("--params-ratio", float, "Most parameters, as a share of the teacher's."),
    _limit("--macs", int, "Most multiply-accumulates for one example."),
    _limit("--macs-ratio", float, "Most multiply-accumulates, as a share of the teacher's."),
    _limit("--size-bytes", int, "Most bytes of stored weights."),
    _limit("--peak-activation-bytes", int, "Most bytes of activations alive at one time."),
    _limit("--latency-ms", float, "Most milliseconds for one batch on --latency-device."),
    click.option("--latency-device", help="Device whose latency is limited: `archsearch devices` lists them; a file "
                 "that `archsearch profile` wrote, or the id of one uploaded (prf_…).  [default: cpu-torch]"),
    click.option("--device", help="Where everything is computed: auto, cpu, cuda, or a GPU by its number: cuda:1.  "
                 "[default: auto]"),
    click.option("--batch", type=int, help="Examples in the batch whose latency and activations are limited."),
    click.option("--space", help="Space of student architectures; `archsearch spaces` lists them.  [default: auto]"),
    click.option("--trade", help="Cost to trade the score against: params, macs, size_bytes, peak_activation_bytes, "
                 "latency_ms."),
    click.option("--candidates", type=int, help="Candidates to score."),
    click.option("--workers", callback=_count, metavar="COUNT", help="Processes that score candidates side by side, or "
                 "auto: one a GPU or a core. The result is that of one.  [default: 1]"),
    click.option("--method", help="Distillation method: `archsearch losses` lists them; auto chooses, "
                 "none is the labels alone."),
    click.option("--init", help="What students begin with: teacher (cut out of the teacher), pretrained (with its "
                 "own weights), scratch (noise), or auto, which lets all compete.  [default: auto]"),
    click.option("--network", "networks", multiple=True, metavar="NAME", help="A network with weights that may be "
                 "the student: `archsearch pretrained` lists them; give it again for more.  [default: all at hand]"),
    click.option("--recipe", help="Published training whose values fields left out take: short, cifar, imagenet."),
    click.option("--epochs", type=int, help="Passes over the training split.  [default: by the number of examples]"),
    click.option("--verify", type=int, help="Distil this many of the search's best briefly, and choose among them; 0 "
                 "is none.  [default: 4 where several families are left and a student is distilled]"),
    click.option("--seed", type=int, help="Seed of search and distillation."),
    click.option("--name", help="A name for people."),
    click.option("--from", "source", metavar="FOLDER_OR_JOB", help="Go on from a search: distil its winner, or its "
                 "--candidate, with its teacher and data."),
    click.option("--candidate", metavar="NUMBER", help="Distil this candidate of --from."),
    click.option("--architecture", help="JSON of one architecture: distil it instead of searching (needs --space)."),
    click.option("--set", "settings", multiple=True, metavar="FIELD=VALUE",
                 help="Any other field, e.g. --set distill.temperature=2 --set search.sampler=random."),
)  # fmt: skip
_FIELDS = {
    "size_bytes": "budget.size_bytes", "peak_activation_bytes": "budget.peak_activation_bytes",
    "latency_ms": "budget.latency_ms", "latency_device": "budget.device", "device": "device",
    "batch": "budget.batch", "trade": "search.trade",
    "params": "budget.params", "params_ratio": "budget.params_ratio", "macs": "budget.macs",
    "macs_ratio": "budget.macs_ratio", "space": "search.space", "candidates": "search.candidates",
    "workers": "search.workers",
    "head": "teacher.head", "method": "distill.method", "init": "distill.init",
    "recipe": "distill.recipe", "epochs": "distill.epochs",
    "verify": "verify.candidates", "name": "name", "students": "students",
}  # fmt: skip


def request_options(command: F) -> F:
    """The flags every command that takes a request has."""
    for option in reversed((*_OPTIONS[:4], *_IMAGES, *_OPTIONS[4:])):
        command = option(command)
    return command


def image_options(command: F) -> F:
    """The flags every command that reads images from files has."""
    for option in reversed(_IMAGES):
        command = option(command)
    return command


def build_request(kind: str | None, flags: dict[str, Any], ask: Ask | None = None) -> JobRequest:
    """One request from a file and flags; raises InvalidRequest naming the field.

    Args:
        kind: What the command does, whatever the file says; None leaves it to the file.
        ask: Tells a job of the server, for a request that goes on from one.
    """
    file: Path | None = flags["file"]
    body: Any = {} if file is None else _yaml(file.read_bytes(), str(file))  # YAML reads JSON too
    if not isinstance(body, dict):
        raise InvalidRequest(f"{file} holds no mapping of fields")
    if isinstance(body.get("request"), dict):
        # A student's manifest: the request that made it, to be made again.
        body = rebased(body["request"], body, file.parent) if file is not None else body["request"]
    if flags["source"] or flags["candidate"]:
        body = {**body, **follow_up(flags["source"], flags["candidate"], ask)}
    body["kind"] = kind or body.get("kind", "search_and_distill")
    if flags["teacher"]:
        body["teacher"] = teacher_of(flags["teacher"])
    if flags["data"]:
        body["data"] = _instead(body.get("data"), data_of(flags["data"]))
    if "data" in body:
        body["data"] = with_images(body["data"], flags)
    if flags["architecture"]:
        architecture = json_of(flags["architecture"], "--architecture")
        if not flags["space"]:
            raise InvalidRequest("is needed with --architecture", field="--space")
        body["student"] = {"space": flags["space"], "architecture": architecture}
    if body.get("student") and body["kind"] == "search_and_distill":
        body["kind"] = "distill"
        body.pop("verify", None)  # chose among a search's best, and there is no search; a --verify is refused below
        body.pop("students", None)
    flags = _devices_told_apart(flags)
    if flags["seed"] is not None:
        _put(body, "search.seed", flags["seed"])
        _put(body, "distill.seed", flags["seed"])
    body = _without_limits(body, flags)
    for flag, field in _FIELDS.items():
        if flags[flag] is not None:
            _put(body, field, flags[flag])
    if flags["networks"]:
        _put(body, "search.pretrained", list(flags["networks"]))
    if flags["verify"] == 0:
        body["verify"] = None
    for field, value in settings_of(flags["settings"]):
        _put(body, field, value)
    for field in ("teacher", "data"):
        if field not in body:
            raise InvalidRequest(f"is needed; give --{field} or a request file", field=field)
    return parse_request(body)


def _without_limits(body: dict[str, Any], flags: dict[str, Any]) -> dict[str, Any]:
    """A file's request without the limits of its several students, where flags limit the same cost, or several."""
    students = body.get("students")
    limited = {name for name, value in students.items() if value is not None} if isinstance(students, dict) else set()
    said = {name: flags[name] for name in LIMITS if flags[name] is not None}
    if limited.isdisjoint(said) and not any(isinstance(value, list) for value in said.values()):
        return body
    return {name: value for name, value in body.items() if name != "students"}


def _devices_told_apart(flags: dict[str, Any]) -> dict[str, Any]:
    """The flags, `--device` where it is computed: it used to name what latency is limited on, which is still heard."""
    named = flags["device"]
    if named is None or re.fullmatch(PATTERN, named):
        return flags
    if not (named in latency_devices.names() or named.endswith(".json") or re.fullmatch(_PROFILE, named)):
        raise InvalidRequest(
            f"{named!r} is nothing to compute on; take auto, cpu, cuda, or a GPU by its number, such as cuda:1. What "
            "latency is limited on is --latency-device",
            field="--device",
        )
    if flags["latency_device"] is not None:
        raise InvalidRequest(f"{named} is for --latency-device, which is given already", field="--device")
    click.echo(f"note: --device is where it is computed; {named} is taken for --latency-device", err=True)
    return {**flags, "device": None, "latency_device": named}


_PROFILE = r"prf_[0-9a-z]+"


def settings_of(settings: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """The fields and values of `--set FIELD=VALUE`."""
    for setting in settings:
        field, equals, value = setting.partition("=")
        if not equals:
            raise InvalidRequest(f"{setting!r} is no FIELD=VALUE", field="--set")
        yield field, _yaml(value, "--set")


def json_of(text: str, option: str) -> dict[str, Any]:
    """The mapping an option holds as JSON."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidRequest(f"is not JSON: {error}", field=option) from None
    if not isinstance(value, dict):
        raise InvalidRequest(f"{text} is no JSON mapping", field=option)
    return value


def teacher_of(text: str) -> dict[str, Any]:
    """What `--teacher` means."""
    path = Path(text.removeprefix("local-dir:"))
    if re.fullmatch(r"tch_[0-9a-f]{20}", text):
        return {"kind": "teacher", "id": text}
    if text.startswith("local-dir:") or path.exists():  # of a file, loading says what it is and what to do
        return {"kind": "local", "path": str(path)}
    return {"kind": "timm", "name": text}


def _instead(before: Any, data: dict[str, Any]) -> dict[str, Any]:
    """Other data than a file names; images elsewhere are read as those were, or the student would be another."""
    both = isinstance(before, dict) and before.get("kind") == data["kind"] == "image_folder"
    return {**before, **data} if both else data


def images_again(flags: Mapping[str, Any]) -> str:
    """The flags that read images from files once more as they were read now, for a command that comes next."""
    given = {name: flags.get(name) for name in ("image_size", "fit", "on_broken", "duplicates")}
    if isinstance(sides := given["image_size"], list | tuple):
        given["image_size"] = "x".join(map(str, sides))
    return "".join(f" --{name.replace('_', '-')} {value}" for name, value in given.items() if value is not None)


def with_images(data: Any, flags: Mapping[str, Any]) -> Any:
    """The data a request names, with what `--image-size` and the other flags say of its images."""
    if flags.get("duplicates") is not None and isinstance(data, dict):
        data = {**data, "duplicates": flags["duplicates"]}
    given = {name: flags[name] for name in ("image_size", "fit", "on_broken") if flags.get(name) is not None}
    if given and (not isinstance(data, dict) or data.get("kind") != "image_folder"):
        option = f"--{min(given).replace('_', '-')}"
        raise InvalidRequest("is for folders and zips of images alone; arrays have their size", field=option)
    return {**data, **given} if given else data


def data_of(text: str) -> dict[str, Any]:
    """What `--data` means."""
    path = Path(text)
    if text == "digits":
        return {"kind": "digits"}
    if re.fullmatch(r"ds_[0-9a-f]{20}", text):
        return {"kind": "dataset", "id": text}
    if not path.exists():
        raise InvalidRequest(f"{text!r} is neither digits, a data set id nor a file here", field="data")
    return {"kind": _kind_of(path), "path": str(path)}


def _kind_of(path: Path) -> str:
    """What a file or folder holds, as its name or its files' names tell."""
    if path.suffix == ".npz":
        return "npz"
    named = sorted(path.iterdir()) if path.is_dir() else [path]
    texts = (one.name.removesuffix(".gz").endswith(_TEXTS) and one.name != "labels.csv" for one in named)
    return "text" if any(texts) else "image_folder"


# A folder of images may have a labels.csv beside them.
_TEXTS = (".csv", ".tsv", ".jsonl", "unlabelled.txt", "unlabeled.txt")


def send_local_parts(client: Client, request: JobRequest, say: Callable[[str], None]) -> JobRequest:
    """Upload what a request names on this machine, and name it by id instead."""
    body = request.model_dump(mode="json")
    data = request.data
    if isinstance(data, FileData):
        say(f"uploading {data.path}")
        few = Few.model_fields.keys()
        options = data.model_dump(mode="json", exclude={"kind", "path", *few})
        patient: Any = {"wait_s": math.inf, "listener": _waiting(say, "data set")}
        dataset = client.add_dataset(data.path, data.kind, name=data.path.name, **options, **patient)
        splits = ", ".join(f"{count:,} {name}" for name, count in dataset["splits"].items())
        say(f"data set {dataset['id']}: {splits} {domains.get(domains.DATA[data.kind]).examples}")
        given = {name: getattr(data, name) for name in few} if isinstance(data, Few) else {}
        body["data"] = {"kind": "dataset", "id": dataset["id"], **given}
    if request.budget.device.endswith(".json"):
        patient = {"wait_s": math.inf, "listener": _waiting(say, "profile")}
        profile = client.add_profile(request.budget.device, **patient)
        say(f"profile {profile['id']}: {profile['device']}")
        body["budget"]["device"] = profile["id"]
    if isinstance(request.teacher, LocalTeacher):
        from archsearch.teachers.archive import to_send

        folder = request.teacher.path
        described, weights = to_send(folder)
        # What is said of it beside where it is, which means the same of the registered one.
        said = request.teacher.model_dump(mode="json", exclude={"kind", "path"}, exclude_none=True)
        say(f"uploading {folder}")
        teacher = client.add_teacher(
            {**described, **said},
            weights=weights,
            name=folder.name,
            data=body["data"],
            wait_s=math.inf,
            listener=_waiting(say, "teacher"),
        )
        facts = teacher["facts"]
        say(f"teacher {teacher['id']}: {written(facts['selection_acc'], unit_of(facts))} on the selection split")
        kept = {name: value for name, value in said.items() if name in RegisteredTeacher.model_fields}
        body["teacher"] = {"kind": "teacher", "id": teacher["id"], **kept}
    return parse_request(body)


def _waiting(say: Callable[[str], None], what: str) -> Callable[[dict[str, Any]], None]:
    """Says now and then that what was sent is still being checked; the server's own limits end a check."""
    said_at = time.monotonic()

    def listen(row: dict[str, Any]) -> None:
        nonlocal said_at
        if time.monotonic() - said_at > _SAID_EVERY_S:
            said_at, done = time.monotonic(), row.get("progress")
            say(f"{what} {row['id']} is still being checked" + (f" ({done:.0%})" if done else ""))

    return listen


def _put(body: dict[str, Any], field: str, value: Any) -> None:
    *parents, last = field.split(".")
    for parent in parents:
        if body.get(parent) in (None, "auto"):  # nothing, or left open
            body[parent] = {}
        body = body[parent]
        if not isinstance(body, dict):
            raise InvalidRequest(f"{parent} has no fields", field=field)
    body[last] = value


def _yaml(text: str | bytes, source: str) -> Any:
    try:
        return read_yaml(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{source} is not readable: {error}") from None
