"""`JobRequest`: the one typed request that a REST body, a YAML file and the shell's flags all become.

Nothing here touches torch, a disk or a database, so a client can build and check a request anywhere.
"""

from archsearch.plain import Spec
from archsearch.request.base import Architecture, Device, Id, OfJob, Start
from archsearch.request.budget import Budget, SizePrecision, TradedCost
from archsearch.request.data import (
    Broken,
    DatasetData,
    DataSpec,
    DigitsData,
    Duplicates,
    FileData,
    Fit,
    Fitting,
    ImageFolderData,
    ImageSize,
    NpzData,
    OnBroken,
    OnDuplicates,
    Side,
    check_image_size,
)
from archsearch.request.distill import Augment, DistillSpec, LossTerm
from archsearch.request.job import JobRequest, Kind, StudentSpec, parse_request, read_request
from archsearch.request.search import Sampler, SearchSpec, Verification, VerifySpec
from archsearch.request.teachers import (
    CLASSES,
    ClassMap,
    ClassName,
    InputSize,
    LocalTeacher,
    Pixels,
    RegisteredTeacher,
    TeacherSource,
    TeacherSpec,
    TimmTeacher,
    UploadedFolder,
    UploadedTeacher,
)
from archsearch.request.wrong import errors_by_field, first_error

__all__ = [
    "CLASSES",
    "Architecture",
    "Augment",
    "Broken",
    "Budget",
    "ClassMap",
    "ClassName",
    "DataSpec",
    "DatasetData",
    "Device",
    "DigitsData",
    "DistillSpec",
    "Duplicates",
    "FileData",
    "Fit",
    "Fitting",
    "Id",
    "ImageFolderData",
    "ImageSize",
    "InputSize",
    "JobRequest",
    "Kind",
    "LocalTeacher",
    "LossTerm",
    "NpzData",
    "OfJob",
    "OnBroken",
    "OnDuplicates",
    "Pixels",
    "RegisteredTeacher",
    "Sampler",
    "SearchSpec",
    "Side",
    "SizePrecision",
    "Spec",
    "Start",
    "StudentSpec",
    "TeacherSource",
    "TeacherSpec",
    "TimmTeacher",
    "TradedCost",
    "UploadedFolder",
    "UploadedTeacher",
    "Verification",
    "VerifySpec",
    "check_image_size",
    "errors_by_field",
    "first_error",
    "parse_request",
    "read_request",
]
