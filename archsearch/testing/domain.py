"""What every domain promises, of one data set and one network of its own: examples, batches, files, formats."""

# N examples, B batch, D features, K classes

from __future__ import annotations

import json
from abc import abstractmethod
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from archsearch import domains
from archsearch.data import Dataset
from archsearch.data.metrics import scores
from archsearch.data.pack import pack
from archsearch.distill.group import Group
from archsearch.domains.domain import Domain
from archsearch.errors import InvalidRequest
from archsearch.request import DistillSpec, UploadedFolder
from archsearch.teachers.archive import describe_archive, unpack_archive

_BATCH, _FEATURES = 8, 12


class DomainContract:
    """Subclass it as `Test…` and give a data set, as a teacher's network reads it, and a network.

    The training split has 24 examples or more; the network answers as many classes as the task has.
    """

    @abstractmethod
    def dataset(self) -> Dataset:
        """The same every time."""

    @abstractmethod
    def student(self) -> nn.Module:
        """A network in eval mode; the same weights every time."""

    def teacher(self) -> Any:
        """What `Domain.save` is given beside the network: None where it needs no teacher."""
        return None

    @property
    def domain(self) -> Domain:
        return domains.of(self.dataset().task)

    def test_the_table_knows_it_by_the_name_its_tasks_have(self) -> None:
        assert domains.get(self.dataset().task.domain) is self.domain
        assert self.domain.name == self.dataset().task.domain

    def test_a_task_comes_back_from_its_json(self) -> None:
        task: Any = self.dataset().task
        body = json.loads(json.dumps({"domain": task.domain, **asdict(task)}))
        assert domains.read_task(body) == task

    def test_examples_are_of_the_shape_it_says(self) -> None:
        dataset = self.dataset()
        x, shape = dataset.train.examples(slice(5)), self.domain.shape(dataset.task)
        assert len(x) == 5
        assert len(x.shape) == 1 + len(shape.sizes)
        assert all(size <= most for size, most in zip(x.shape[1:], shape.sizes, strict=True))
        assert x.is_floating_point() == (shape.vocabulary == 0)
        assert self.domain.told(dataset.task)

    def test_rows_are_the_same_however_they_are_taken(self) -> None:
        train = self.dataset().train
        rows = np.array([4, 1, 7])
        assert torch.equal(train.examples(rows), train.take(rows).examples(slice(None)))
        assert np.array_equal(train.take(rows).y_N, train.y_N[rows])
        assert len(train.labels()) == len(train)

    def test_preparing_leaves_the_examples_alone_and_networks_answer_every_class(self) -> None:
        dataset = self.dataset()
        x = dataset.train.examples(slice(4))
        before = x.clone()
        with torch.inference_mode():
            answers_BK = self.student()(self.domain.prepare(x, dataset.task))
        assert torch.equal(x, before)
        assert answers_BK.shape == (4, dataset.task.classes)

    def test_a_network_runs_on_what_the_shape_makes(self) -> None:
        shape, student = self.domain.shape(self.dataset().task), self.student()
        with torch.inference_mode():
            for x in (shape.zeros(2), shape.noise(2)):
                assert student(x).isfinite().all()
        assert torch.equal(shape.noise(2), shape.noise(2))

    def test_what_it_is_measured_by_reads_answers_as_they_come(self) -> None:
        dataset = self.dataset()
        metrics = self.domain.metrics(dataset.task)
        assert domains.judge(dataset.task) is metrics[0]
        assert len({metric.key for metric in metrics}) == len(metrics)
        y_N, scale = dataset.selection.y_N, np.random.default_rng(0).normal(size=(len(dataset.selection), 1))
        answers_NK = scale * np.arange(dataset.task.classes)
        for metric in metrics:
            meter = metric.meter()
            for rows in (slice(0, 3), slice(3, None)):
                meter.update(torch.from_numpy(answers_NK[rows]), torch.from_numpy(np.array(y_N[rows])))
            assert meter.value() == scores((metric,), answers_NK, y_N)[metric.key]
            assert metric.is_better(meter.value(), than=metric.worst)
            assert np.isfinite(metric.chance(dataset.task))

    def test_coarse_features_are_few_and_finite(self) -> None:
        found_ND = self.domain.coarse(self.dataset().test, _FEATURES)
        assert len(found_ND) == len(self.dataset().test)
        assert 0 < found_ND.shape[1] <= _FEATURES
        assert np.isfinite(found_ND).all()

    def test_a_training_may_go_on_at_any_step_of_an_epoch(self) -> None:
        dataset, spec = self.dataset(), DistillSpec(epochs=2, batch_size=_BATCH, seed=1)
        loader = self.domain.loader(dataset, spec, "cpu", Group())
        whole, later = list(loader.epoch(1, 0)), list(self.domain.loader(dataset, spec, "cpu", Group()).epoch(1, 2))
        assert len(whole) == len(dataset.train) // _BATCH
        assert [batch.row_B.tolist() for batch in whole[2:]] == [batch.row_B.tolist() for batch in later]
        assert all(torch.equal(one.x, other.x) for one, other in zip(whole[2:], later, strict=True))
        rows = np.concatenate([batch.row_B for batch in whole])
        assert len(set(rows.tolist())) == len(rows)
        assert all(torch.equal(batch.y, dataset.train.labels()[batch.row_B]) for batch in whole)

    def test_processes_share_each_batch_between_them(self) -> None:
        dataset, spec = self.dataset(), DistillSpec(epochs=1, batch_size=_BATCH, seed=1)
        whole, first, second = (
            [batch.row_B for batch in self.domain.loader(dataset, spec, "cpu", group).epoch(0, 0)]
            for group in (Group(), Group(0, 2), Group(1, 2))
        )
        shared = [np.concatenate(both) for both in zip(first, second, strict=True)]
        assert all(np.array_equal(one, other) for one, other in zip(whole, shared, strict=True))

    def test_views_have_numbers_below_their_count(self) -> None:
        dataset, spec = self.dataset(), DistillSpec(epochs=1, batch_size=_BATCH)
        views = self.domain.views(dataset.task, spec)
        if views is not None:
            seen = [batch.view_B for batch in self.domain.loader(dataset, spec, "cpu", Group()).epoch(0, 0)]
            assert all(0 <= view_B.min() <= view_B.max() < views.count for view_B in seen)

    def test_stored_data_are_opened_as_they_were(self, tmp_path: Path) -> None:
        dataset = self.dataset()
        domains.save_dataset(dataset, tmp_path / "data")
        domains.save_dataset(dataset, tmp_path / "data")  # there already, and left alone
        again = domains.open_dataset(tmp_path / "data")
        assert (again.task, again.sha256) == (dataset.task, dataset.sha256)
        assert torch.equal(again.test.examples(slice(3)), dataset.test.examples(slice(3)))
        assert np.array_equal(again.train.y_N, dataset.train.y_N)

    def test_a_saved_student_answers_bit_for_bit_and_tells_whose_it_is(self, tmp_path: Path) -> None:
        dataset, student = self.dataset(), self.student()
        x = self.domain.prepare(dataset.test.examples(slice(4)), dataset.task)
        with torch.inference_mode():
            before_BK = student(x)
            self.domain.save(student, dataset.task, tmp_path, self.teacher())
            assert torch.equal(self.domain.open(tmp_path)(x), before_BK)
        config = json.loads((tmp_path / "config.json").read_text())
        assert domains.of_config(config) is self.domain
        assert self.domain.card(config, {}, self.domain.stock(config)).use.startswith("## Use")

    def test_a_saved_student_tells_its_task_and_what_else_may_stand_beside_it(self, tmp_path: Path) -> None:
        task: Any = self.dataset().task
        self.domain.save(self.student(), task, tmp_path, self.teacher())
        own: Any = self.domain.open_task(tmp_path)
        assert domains.of(own) is self.domain
        assert (own.classes, own.class_names, own.kind) == (task.classes, task.class_names, task.kind)
        assert self.domain.shape(own) == self.domain.shape(task)
        self.domain.check_beside("itself", tmp_path, tmp_path, task, "--baseline")
        with pytest.raises(InvalidRequest):
            self.domain.check_beside(
                "itself", tmp_path, tmp_path, replace(task, classes=task.classes + 1), "--baseline"
            )
        assert self.domain.called(self.domain.held_out(self.dataset().selection, task)[0])

    def test_sizes_make_tasks_that_say_the_same_size(self) -> None:
        task, plain = self.dataset().task, self.domain.sizes().task(3)
        assert (plain.classes, domains.of(plain)) == (3, self.domain)
        again = self.domain.measured_on(**self.domain.size(task)).task(task.classes)
        assert self.domain.size(again) == self.domain.size(task)
        assert self.domain.shape(again) == self.domain.shape(task)
        assert self.domain.flags(task).keys() == self.domain.sizes.model_fields.keys()

    def test_a_folder_tells_of_its_network_before_that_is_loaded_and_comes_as_a_zip(self, tmp_path: Path) -> None:
        task: Any = self.dataset().task
        self.domain.save(self.student(), task, tmp_path / "saved", self.teacher())
        path = pack(tmp_path / "saved", tmp_path / "zip", domains.teacher_files())
        told = describe_archive(path, field="upload")
        assert (told["domain"], told["num_classes"]) == (self.domain.name, task.classes)
        self.domain.check_facts(told, task, "teacher")
        assert self.domain.read_by(task, told) == task
        unpack_archive(path, tmp_path / "folder")
        source = UploadedFolder(upload="up_" + "0" * 20)
        teacher: Any = self.domain.load_teacher(source, tmp_path / "folder", None)
        facts = json.loads(json.dumps(self.domain.facts(teacher)))
        assert teacher.num_classes == task.classes
        self.domain.check_facts(facts, task, "teacher")
        assert self.domain.read_by(task, facts) == task

    def test_formats_are_asked_what_the_network_is_asked(self) -> None:
        dataset, student = self.dataset(), self.student()
        x = dataset.test.examples(slice(4))
        with torch.inference_mode():
            expected_BK = student(self.domain.prepare(x, dataset.task)).numpy()
        found_BK = self.domain.reference(student, dataset.task)(self.domain.raw(x))
        np.testing.assert_allclose(found_BK, expected_BK, atol=1e-5)
        held = self.domain.held_out(dataset.selection, dataset.task)
        assert 0 < len(held) <= len(dataset.selection)
        assert len(self.domain.held_out(None, dataset.task)) > 0
        names = [one.name for one in self.domain.formats()]
        assert len(set(names)) == len(names)
