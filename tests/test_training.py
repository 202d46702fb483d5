"""Fitting a head on a cache: same seed same weights, interruption, selection, defaults."""

from __future__ import annotations

import csv
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.swa_utils import AveragedModel

from frostbox import backbones
from frostbox.callbacks import warming_average
from frostbox.data.voc import load
from frostbox.errors import SettingsError
from frostbox.features.extract import extract
from frostbox.heads import FeatureSpec, create_head, head_class, head_names
from frostbox.memory import _limits, physical_bytes
from frostbox.sampling import ViewSampler
from frostbox.training import CachedViews, FitSettings, fit, view_sampler
from tests.shapes import write_shapes

SETTINGS = FitSettings(epochs=4, batch_size=8, lr=2e-3, device="cpu", seed=3)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """Data sets and caches of the shapes at 64 pixels: 2 x 2 maps."""
    folder = tmp_path_factory.mktemp("shapes")
    root = write_shapes(folder / "VOC2012")
    backbone = backbones.create("efficientnet_lite0", (32,))
    sets = {s: load(root, s) for s in ("train", "val")}
    caches = {
        s: extract(d, backbone, folder / s, size=(64, 64), views=2, engine="torch")
        for s, d in sets.items()
    }
    return sets, caches, FeatureSpec((32,), backbone.channels, backbone.map_sizes((64, 64)))


def run(shapes, name, folder, settings=SETTINGS, *, validate=True, **options):
    sets, caches, spec = shapes
    torch.manual_seed(settings.seed)
    head = create_head(name, spec, 3)
    train = CachedViews(caches["train"], sets["train"], head, difficult=settings.difficult)
    val = CachedViews(caches["val"], sets["val"], head) if validate else None
    folder.mkdir(exist_ok=True)
    return head, fit(head, train, val, settings, folder, **options)


def weights(head):
    return {k: v.clone() for k, v in head.state_dict().items()}


def assert_equal_weights(a, b):
    assert all(torch.equal(v, b[k]) for k, v in a.items())


@pytest.mark.parametrize("name", head_names())
def test_same_seed_same_weights_other_seed_other_weights(shapes, name, tmp_path):
    first, _ = run(shapes, name, tmp_path / "a")
    second, _ = run(shapes, name, tmp_path / "b")
    other, _ = run(shapes, name, tmp_path / "c", replace(SETTINGS, seed=4))
    assert_equal_weights(weights(first), weights(second))
    assert any(not torch.equal(v, weights(other)[k]) for k, v in weights(first).items())


class StopAfter(Exception):
    """Stands for a training that is killed between two epochs."""


@pytest.mark.parametrize("name", head_names())
def test_a_resumed_run_ends_like_an_uninterrupted_one(shapes, name, tmp_path, monkeypatch):
    whole, expected = run(shapes, name, tmp_path / "whole")

    original = ViewSampler.set_epoch

    def interrupt(self, epoch):
        if epoch == 2:
            raise StopAfter
        original(self, epoch)

    monkeypatch.setattr(ViewSampler, "set_epoch", interrupt)
    with pytest.raises(StopAfter):
        run(shapes, name, tmp_path / "cut")
    monkeypatch.setattr(ViewSampler, "set_epoch", original)
    resumed, result = run(shapes, name, tmp_path / "cut", resume=True)

    assert_equal_weights(weights(whole), weights(resumed))
    assert result.best_epoch == expected.best_epoch
    rows = [
        list(csv.DictReader((tmp_path / part / "metrics.csv").open())) for part in ("whole", "cut")
    ]
    assert rows[0] == rows[1]
    assert [row["epoch"] for row in rows[0]] == ["0", "1", "2", "3"]


def test_a_head_in_eval_mode_is_trained_like_another(shapes, tmp_path):
    sets, caches, spec = shapes
    heads = []
    for number in range(2):
        torch.manual_seed(3)
        head = create_head("pyramid", spec, 3).train(number == 0)
        train = CachedViews(caches["train"], sets["train"], head)
        (tmp_path / str(number)).mkdir()
        fit(head, train, None, SETTINGS, tmp_path / str(number))
        heads.append(weights(head))
    assert_equal_weights(*heads)


def test_the_best_epoch_is_kept_and_its_figures_reported(shapes, tmp_path):
    _, result = run(shapes, "grid", tmp_path / "run", replace(SETTINGS, epochs=8))
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").open()))
    losses = [float(row["val_loss"]) for row in rows]
    assert result.best_epoch == losses.index(min(losses))
    assert result.metrics["val_loss"] == min(losses)
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])
    assert {"val_accuracy", "val_mean_iou", "val_objectness_loss", "val_box_loss"} <= set(rows[0])


def test_without_validation_the_final_weights_are_kept(shapes, tmp_path):
    head, result = run(shapes, "grid", tmp_path / "run", validate=False)
    assert result.best_epoch == SETTINGS.epochs - 1
    stored = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["state_dict"]
    assert_equal_weights({f"head.{k}": v for k, v in weights(head).items()}, stored)


def test_early_stopping_ends_a_run_that_gains_nothing(shapes, tmp_path):
    settings = replace(SETTINGS, epochs=40, lr=1e-9, patience=2)
    _, result = run(shapes, "single", tmp_path / "run", settings)
    assert result.epochs < 40


def test_patience_counts_validations(shapes, tmp_path):
    settings = replace(SETTINGS, epochs=60, lr=1e-9, patience=2, validate_every=3)
    _, result = run(shapes, "single", tmp_path / "run", settings)
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").open()))
    losses = [float(row["val_loss"]) for row in rows if row["val_loss"]]
    assert result.epochs == len(rows) < 60
    assert len(losses) - 1 - losses.index(min(losses)) == 2


@pytest.mark.parametrize("epochs", [1, 2, 10])
def test_schedules_of_any_length(shapes, tmp_path, epochs):
    settings = replace(SETTINGS, epochs=epochs, batch_size=24)  # one step an epoch
    _, result = run(shapes, "grid", tmp_path / "run", settings, validate=False)
    assert result.epochs == epochs


def test_images_without_objects_can_be_left_out(shapes, tmp_path):
    sets, caches, spec = shapes
    head = create_head("grid", spec, 3)
    train = CachedViews(caches["train"], sets["train"], head)
    assert train.objects.count(0) == 3
    seen = []
    original = CachedViews.__getitems__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            CachedViews, "__getitems__", lambda self, r: seen.extend(r) or original(self, r)
        )
        fit(head, train, None, replace(SETTINGS, epochs=1, empty=False), tmp_path)
    assert len(seen) == 21
    assert all(train.objects[i] for i, _ in seen)


def test_flipped_views_have_flipped_boxes(shapes):
    sets, caches, spec = shapes
    head = create_head("single", spec, 3)
    data = CachedViews(caches["train"], sets["train"], head)
    _, plain = data.__getitems__([(0, 0)])
    _, flipped = data.__getitems__([(0, 1)])
    cx, cy, w, h = plain["bboxes"][0].tolist()
    assert flipped["bboxes"][0].tolist() == pytest.approx([1 - cx, cy, w, h], abs=1e-6)


@pytest.mark.parametrize("name", head_names())
def test_every_head_learns_from_drawn_views(shapes, name, tmp_path):
    sets, _, _ = shapes
    cls = head_class(name)
    backbone = backbones.create("efficientnet_lite0", cls.strides)
    cache = extract(sets["train"], backbone, tmp_path / "c", size=(64, 64), views=6, engine="torch")
    head = create_head(name, FeatureSpec(cls.strides, cache.channels, cache.map_sizes), 3)
    train = CachedViews(cache, sets["train"], head)
    # Two of the six are mosaics.
    assert train.views == (4 if cls.whole else 6)
    assert {len(values) for values in train.encoded.values()} == {train.views * len(cache)}
    fit(head, train, None, replace(SETTINGS, epochs=2), tmp_path)
    assert all(v.isfinite().all() for v in head.state_dict().values())


def test_each_epoch_takes_every_image_once_in_a_new_order():
    sampler = ViewSampler(range(10), views=2, seed=1)
    epochs = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        epochs.append(list(sampler))
    assert epochs[0] == epochs[2]
    assert epochs[0] != epochs[1]
    assert all(sorted(i for i, _ in e) == list(range(10)) for e in epochs)
    assert {v for e in epochs for _, v in e} == {0, 1}


def test_unusable_settings_and_data_are_refused(shapes, tmp_path):
    with pytest.raises(SettingsError, match="epochs is 0: it must be at least 1"):
        FitSettings(epochs=0)
    with pytest.raises(SettingsError, match="lr is -1"):
        FitSettings(lr=-1)
    with pytest.raises(SettingsError, match="device is 'tpu'"):
        FitSettings(device="tpu")
    with pytest.raises(SettingsError, match="no run to resume"):
        run(shapes, "grid", tmp_path / "nothing", resume=True)
    sets, caches, spec = shapes
    head = create_head("grid", spec, 3)
    empty = sets["train"].subset([replace(i, objects=()) for i in sets["train"].images])
    with pytest.raises(SettingsError, match="no object to learn from"):
        fit(head, CachedViews(caches["train"], empty, head), None, SETTINGS, tmp_path)


def test_validation_every_few_epochs_ends_with_the_last_and_leaves_no_stale_figures(
    shapes, tmp_path
):
    _, result = run(shapes, "grid", tmp_path / "run", replace(SETTINGS, epochs=8, validate_every=3))
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").open()))
    assert [k for k, row in enumerate(rows) if row["val_loss"]] == [1, 4, 7]
    assert result.best_epoch in (1, 4, 7)
    validated = {float(row["val_loss"]): k for k, row in enumerate(rows) if row["val_loss"]}
    assert result.best_epoch == validated[min(validated)]
    assert all(row["train_loss"] for row in rows)


def test_a_run_that_validates_seldom_is_resumed_at_the_last_epoch(shapes, tmp_path, monkeypatch):
    settings = replace(SETTINGS, epochs=6, validate_every=4)
    whole, _ = run(shapes, "grid", tmp_path / "whole", settings)
    original = ViewSampler.set_epoch
    begun = []

    def interrupt(self, epoch):
        begun.append(epoch)
        if begun.count(4) == 1 and epoch == 4:
            raise StopAfter
        original(self, epoch)

    monkeypatch.setattr(ViewSampler, "set_epoch", interrupt)
    with pytest.raises(StopAfter):
        run(shapes, "grid", tmp_path / "cut", settings)
    resumed, _ = run(shapes, "grid", tmp_path / "cut", settings, resume=True)
    assert begun == [0, 1, 2, 3, 4, 4, 5]
    assert_equal_weights(weights(whole), weights(resumed))


def test_an_epoch_may_be_a_part_of_the_images(shapes, tmp_path):
    seen = []
    original = CachedViews.__getitems__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            CachedViews, "__getitems__", lambda self, r: seen.append(len(r)) or original(self, r)
        )
        settings = replace(SETTINGS, epochs=3, epoch_images=12)
        run(shapes, "grid", tmp_path / "run", settings, validate=False)
    assert seen == [8, 4] * 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"validate_every": -1}, "validate_every is -1"),
        ({"epoch_images": -2}, "epoch_images is -2"),
        ({"backbone_lr": 0.0}, r"backbone_lr is 0.0: it must be in \(0, 1\]"),
        ({"stage_decay": 1.5}, "stage_decay is 1.5"),
    ],
)
def test_settings_out_of_range_are_refused(values, message):
    with pytest.raises(SettingsError, match=message):
        FitSettings(**values)


def test_the_average_of_weights_warms_up_and_leaves_counters_alone():
    model = torch.nn.BatchNorm1d(2)
    decay = 0.5
    average = AveragedModel(model, use_buffers=True, multi_avg_fn=warming_average(decay))
    expected = torch.ones(2)
    for n in range(5):
        model.weight.data = torch.tensor([float(n), -3.0 * n])
        model.num_batches_tracked.fill_(7 + n)
        average.update_parameters(model)
        keep = min(decay, (1 + n) / (10 + n)) if n else 0.0
        expected = keep * expected + (1 - keep) * model.weight.data
        torch.testing.assert_close(average.module.weight.data, expected)
        assert average.module.num_batches_tracked == 7 + n


@given(
    count=st.integers(1, 300), block=st.integers(1, 40), window=st.integers(0, 400),
    epoch=st.integers(0, 3),
)  # fmt: skip
def test_a_shuffle_window_gives_every_image_once_and_reads_few_files_at_a_time(
    count, block, window, epoch
):
    sampler = ViewSampler(range(count), 2, seed=1, window=window, block=block)
    sampler.set_epoch(epoch)
    order = [image for image, _ in sampler]
    assert sorted(order) == list(range(count))
    assert order == [image for image, _ in sampler]
    if 0 < window < count:
        files = [image // block for image in order]
        first = {f: files.index(f) for f in set(files)}
        last = {f: len(files) - 1 - files[::-1].index(f) for f in set(files)}
        most = max(1, window // block) * block
        assert all(last[f] - first[f] < most for f in first)
    sampler.set_epoch(epoch + 1)
    if count > 20:
        assert order != [image for image, _ in sampler]


@pytest.fixture
def six(tmp_path):
    """A cache of six images in three files, with its data set and a head."""
    root = write_shapes(tmp_path / "VOC2012", train=6, val=2)
    dataset = load(root, "train")
    backbone = backbones.create("lite0", (32,), "random:0")
    cache = extract(dataset, backbone, tmp_path / "cache", size=(64, 64), shard_images=2)
    spec = FeatureSpec((32,), backbone.channels, backbone.map_sizes((64, 64)))
    head = create_head("grid", spec, len(dataset.classes))
    return cache, dataset, head


@pytest.mark.parametrize(
    ("lines", "files", "limits"),
    [
        (
            "0::/a/b\n",
            {"memory.max": "900", "a/memory.max": "70", "a/b/memory.max": "max"},
            [70, 900],
        ),
        ("0::/\n", {"memory.max": "max"}, []),
        (
            "4:memory:/a\n3:cpu:/a\n0::/\n",
            {"memory/memory.limit_in_bytes": "90", "memory/a/memory.limit_in_bytes": "50"},
            [50, 90],
        ),
        (None, {}, []),
    ],
)
def test_memory_that_control_groups_allow(tmp_path, lines, files, limits):
    own, groups = tmp_path / "cgroup", tmp_path / "groups"
    if lines is not None:
        own.write_text(lines)
    for name, text in files.items():
        (groups / name).parent.mkdir(parents=True, exist_ok=True)
        (groups / name).write_text(text + "\n")
    assert list(_limits(own, groups)) == limits


def test_a_cache_that_does_not_fit_into_memory_is_shuffled_in_windows(six, monkeypatch):
    cache, dataset, head = six
    assert CachedViews(cache, dataset, head).window == 0
    assert physical_bytes() > 1e8
    monkeypatch.setattr("frostbox.training.physical_bytes", lambda: cache.nbytes)
    samples = CachedViews(cache, dataset, head)
    assert samples.window == 1
    assert samples.block == 2


def test_fit_reads_in_the_windows_of_its_samples_or_settings(six, tmp_path, monkeypatch):
    samples = CachedViews(*six)
    head = six[2]
    for own, asked, used in ((0, 0, 0), (4, 0, 4), (4, 2, 2)):
        samples.window = own
        sampler = view_sampler(samples, FitSettings(shuffle_window=asked))
        assert (sampler.window, sampler.block) == (used, 2)
    seen: list[list[int]] = []
    read = samples.__class__.__getitems__

    def noted(self, rows):
        seen.append([image // 2 for image, _ in rows])
        return read(self, rows)

    monkeypatch.setattr(samples.__class__, "__getitems__", noted)
    (tmp_path / "run").mkdir()
    settings = FitSettings(epochs=1, batch_size=2, shuffle_window=2)
    fit(head, samples, None, settings, tmp_path / "run")
    # A window of one file: every batch of two is of one file.
    assert sorted(tuple(set(files)) for files in seen) == [(0,), (1,), (2,)]
