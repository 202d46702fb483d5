"""What is chosen for a user, why, and what a flag pins."""

from __future__ import annotations

import io
import math
from dataclasses import replace

import pytest
from rich.console import Console

from frostbox import backbones, choosing, planning
from frostbox.choosing import chosen
from frostbox.data.views import MosaicView, first_views
from frostbox.data.voc import load
from frostbox.errors import SettingsError
from frostbox.features.extract import extract
from frostbox.features.store import cache_root
from frostbox.pace import Pace, measured_pace
from frostbox.planning import Room
from frostbox.recipes import RECIPES
from frostbox.settings import TrainSettings
from frostbox.units import seconds_text
from tests.shapes import write_shapes

NO_END = Room()
PACE = Pace(view=0.01, step=0.005, photo=0.003)


@pytest.fixture(params=[300, 2400])
def sets(tmp_path, request):
    root = write_shapes(tmp_path / "VOC2012", train=8, val=4)
    train = load(root, "train")
    # As many images as a larger set has; nothing but their number is looked at.
    repeated = list(train.images) * (request.param // 8 + 1)
    return train.subset(repeated[: request.param]), load(root, "val")


def choose(sets, given, budget, monkeypatch, device="cpu", room=NO_END):
    monkeypatch.setattr(choosing, "measured_pace", lambda *_: PACE)
    text = io.StringIO()
    settings = TrainSettings.create(given)
    console = Console(file=text, width=1000)
    return chosen(settings, given, *sets, budget, device, console, room), text.getvalue()


def fitting(images, gpu=False):
    known = [r for r in RECIPES if r.images[0] <= images <= r.images[1]]
    return [r for r in known if r.gpu in (None, gpu)]


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize("images", [300, 1000, 1001, 5000, 100000])
def test_recipes_go_from_cheap_to_dear(images, gpu):
    needs = [recipe.seconds(PACE, images, 100) for recipe in fitting(images, gpu)]
    assert needs == sorted(needs)
    assert all(0 < recipe.head_share() <= 1 for recipe in RECIPES)
    assert (RECIPES[0].view, RECIPES[0].step) == (1.0, 1.0)


def test_a_longer_budget_buys_a_better_recipe_and_says_why(sets, monkeypatch):
    images = len(sets[0].photos)
    seen = []
    for recipe in fitting(images):
        need = recipe.seconds(PACE, images, len(sets[1].photos))
        settings, said = choose(sets, {}, need / 0.95 + 1, monkeypatch)
        seen.append((settings.backbone, settings.size, settings.thaw))
        assert seen[-1] == (recipe.backbone, (recipe.size,) * 2, recipe.thaw)
        assert settings.views == recipe.enough_views(images) >= recipe.views
        assert (settings.fit.batch_size, settings.fit.lr) == (recipe.batch_size, recipe.lr)
        assert settings.head_settings == ({"dropout": recipe.dropout} if recipe.dropout else {})
        assert f"{recipe.backbone}, {recipe.size} x {recipe.size}" in said
        assert "100 views/s, 200 images/s" in said
        if recipe is not fitting(images)[-1]:
            assert "and more it would be" in said
    assert len(set(seen)) == len(fitting(images)) > 2


def test_a_small_data_set_gets_more_passes_and_more_views():
    for recipe in RECIPES:
        small, large = recipe.enough(200), recipe.enough(20000)
        assert large == (recipe.passes, recipe.thaw_passes)
        assert small[0] * 200 == pytest.approx(max(recipe.fewest, recipe.passes * 200))
        assert small[1] * recipe.passes == pytest.approx(small[0] * recipe.thaw_passes)
        most, fewest = recipe.enough_views(100), recipe.enough_views(20000)
        if recipe.thaw == "all":  # sees its photos anew each time
            assert most == fewest == recipe.views
            continue
        assert most > fewest >= recipe.views or most == fewest == 8
    for recipe in RECIPES:
        views = [recipe.views_within(60.0 * m, PACE, 2500, 100) for m in (1, 10, 30, 1000)]
        assert views == sorted(views)
        assert views[0] == recipe.views
        assert views[-1] == (recipe.views if recipe.thaw == "all" else 8)


def test_a_budget_too_short_for_all_takes_the_cheapest(sets, monkeypatch):
    settings, said = choose(sets, {}, 1.0, monkeypatch)
    assert "cut short" in said
    # What more time would buy is the next recipe, not this one.
    dearer = fitting(len(sets[0].photos))[1]
    need = dearer.seconds(PACE, len(sets[0].photos), len(sets[1].photos))
    assert f"with {seconds_text(need / 0.95)} and more it would be {dearer.backbone}, " in said
    assert settings.backbone == RECIPES[0].backbone
    assert settings.size == (RECIPES[0].size,) * 2


def test_flags_stay(sets, monkeypatch):
    settings, _ = choose(sets, {"backbone": "lite0", "views": 3, "lr": 1e-3}, 1e6, monkeypatch)
    assert (settings.backbone, settings.views, settings.fit.lr) == ("lite0", 3, 1e-3)
    settings, _ = choose(sets, {"thaw": "none", "size": (320, 320)}, 1e6, monkeypatch)
    assert (settings.thaw, settings.size) == ("none", (320, 320))
    settings, said = choose(sets, {"backbone": "resnet50", "size": (256, 256)}, 1e6, monkeypatch)
    assert settings == TrainSettings.create({"backbone": "resnet50", "size": (256, 256)})
    assert "planned for the settings that were given" in said
    for budget in (None, 1e6):
        settings, _ = choose(sets, {"head": "grid"}, budget, monkeypatch)
        assert settings == TrainSettings.create({"head": "grid"})


def test_without_a_budget_the_number_of_images_decides(sets, monkeypatch):
    settings, said = choose(sets, {}, None, monkeypatch)
    small = len(sets[0].photos) <= 1000
    assert settings.thaw == "1"
    assert settings.size == ((512, 512) if small else (320, 320))
    assert settings.fit.batch_size == (16 if small else 32)
    assert settings.head_settings == ({"dropout": 0.2} if small else {})
    assert settings.fit.epochs == (20 if small else 8)
    assert settings.thaw_epochs == (20 if small else 15)
    assert (", dropout 0.2, 20 epochs" in said) == small
    assert f"{settings.fit.epochs} epochs" in said
    assert "what was measured to suit" in said
    assert settings.views == (8 if small else 6)
    given, _ = choose(sets, {"epochs": 7}, None, monkeypatch)
    assert (given.fit.epochs, given.thaw) == (7, "none")
    longer, _ = choose(sets, {"epochs": 70}, None, monkeypatch)
    assert longer.views == given.views  # whose features are found again
    assert given.head_settings == settings.head_settings
    given, _ = choose(sets, {"start": "run"}, None, monkeypatch)
    assert given.thaw == "none"
    given, _ = choose(sets, {"thaw": "none"}, None, monkeypatch)
    assert given.fit.epochs == (40 if small else 20)
    assert given.size == settings.size
    given, _ = choose(sets, {"backbone": "lite0"}, None, monkeypatch)
    assert given.size == ((416, 416) if small else (320, 320))
    for odd in ({"backbone": "resnet50"}, {"size": (64, 64)}):
        given, told = choose(sets, odd, None, monkeypatch)
        assert (given.thaw, given.head_settings) == ("none", {})
        assert given.backbone == odd.get("backbone", "efficientnet_lite0")
        assert "measured" not in told
    for pinned in ({"dropout": 0.0}, {"head_settings": {"depth": 2}}):
        given, _ = choose(sets, pinned, None, monkeypatch)
        assert given.head_settings == pinned.get("head_settings", pinned)
    given, _ = choose(sets, {"thaw": "2", "thaw_epochs": 3, "size": (64, 32)}, None, monkeypatch)
    assert (given.thaw, given.thaw_epochs, given.size) == ("2", 3, (64, 32))
    replayed = TrainSettings.create({"seed": 3, "views": 5})
    every = {name: getattr(replayed, name) for name in ("views", "thaw", "size", "backbone")}
    every |= {name: getattr(replayed.fit, name) for name in ("epochs", "batch_size", "lr")}
    every |= {"thaw_epochs": replayed.thaw_epochs, "seed": 3, "head_settings": {}}
    again, _ = choose(sets, every, None, monkeypatch)
    assert again == replayed


def test_a_gpu_thaws_everything_unless_it_is_told_otherwise(sets, monkeypatch):
    small = len(sets[0].photos) <= 1000
    for budget in (None, 1000.0):
        settings, said = choose(sets, {}, budget, monkeypatch, "cuda")
        assert (settings.thaw == "all") != small
        assert ("thawed stages: all" in said) != small
    settings, _ = choose(sets, {}, None, monkeypatch, "cuda")
    if not small:
        assert (settings.size, settings.fit.batch_size, settings.views) == ((512, 512), 64, 2)
        assert (settings.fit.epochs, settings.thaw_epochs) == (8, 50)
    on_cpu, _ = choose(sets, {}, 1000.0, monkeypatch)
    assert on_cpu.thaw != "all"
    pinned, _ = choose(sets, {"backbone": "lite0", "size": (320, 320)}, None, monkeypatch, "cuda")
    assert pinned.thaw == ("none" if small else "1")  # the recipe for few is another size
    short, _ = choose(sets, {}, 30.0, monkeypatch, "cuda")
    assert short.thaw == "none"


def view_bytes(recipe):
    widths = (40, 112, 320) if recipe.backbone == "efficientnet_lite0" else (48, 120, 352)
    return sum(2 * c * (recipe.size // s) ** 2 for c, s in zip(widths, (8, 16, 32), strict=True))


def room_for(recipe, views, sets, cached=0):
    """What holds so many views of these images, and no more."""
    images, val = len(sets[0].photos), len(sets[1].photos)
    needed = math.ceil(view_bytes(recipe) * (views * images + val) / 0.9) + 100
    key = (recipe.backbone, (recipe.size, recipe.size), "float16")
    return Room(needed - cached, {key: cached})


def test_a_budget_is_spent_on_what_the_disk_holds(sets, monkeypatch):
    images = len(sets[0].photos)
    best = fitting(images)[-1]
    plenty, said = choose(sets, {}, 1e6, monkeypatch)
    assert "disk" not in said
    assert (plenty.backbone, plenty.size[0], plenty.views) == (best.backbone, best.size, 8)
    fewest = best.enough_views(images)
    for views in range(fewest, 8):
        settings, said = choose(sets, {}, 1e6, monkeypatch, room=room_for(best, views, sets))
        assert settings == replace(plenty, views=views)
        told = said.split("the disk decides")[1]
        assert ", 8 views" in told
        assert "--cache on another disk" in told
        given, said = choose(
            sets, {"views": views}, 1e6, monkeypatch, room=room_for(best, views, sets)
        )
        assert given == settings
        assert "disk" not in said
    # Too little for the best recipe's shortest schedule: another one, and what would be better.
    alike = [r for r in fitting(images) if (r.backbone, r.size) == (best.backbone, best.size)]
    less = room_for(best, min(r.enough_views(images) for r in alike) - 1, sets)
    settings, said = choose(sets, {}, 1e6, monkeypatch, room=less)
    assert (settings.backbone, settings.size[0]) != (best.backbone, best.size)
    assert f"{best.backbone}, {best.size} x {best.size}, 8 views" in said.split("disk decides")[1]
    assert "and more it would be" not in said


def test_what_is_cached_already_needs_no_room(sets, monkeypatch):
    best = fitting(len(sets[0].photos))[-1]
    plenty, _ = choose(sets, {}, 1e6, monkeypatch)
    room = room_for(best, 8, sets, cached=view_bytes(best) * 100)
    settings, said = choose(sets, {}, 1e6, monkeypatch, room=room)
    assert settings == plenty
    assert "disk" not in said
    settings, said = choose(sets, {}, 1e6, monkeypatch, room=replace(room, cached={}))
    assert settings != plenty
    assert "the disk decides" in said


@pytest.mark.parametrize("pinned", [{}, {"size": (512, 512), "backbone": "lite2"}])
def test_too_little_time_and_too_little_room(sets, monkeypatch, pinned):
    plenty, _ = choose(sets, pinned, 60.0, monkeypatch)
    settings, said = choose(sets, pinned, 60.0, monkeypatch, room=Room(1000))
    assert settings.size == plenty.size
    assert settings.views <= plenty.views
    assert ("the disk decides" in said) == (settings.views < plenty.views)


def test_the_disk_is_asked_about_maps_and_not_about_weights(sets, monkeypatch):
    given = {"weights": "of_lite0.pth"}  # no file: nobody has to open it to plan
    settings, _ = choose(sets, given, 60.0, monkeypatch, room=Room(1e12))
    assert settings.weights == "of_lite0.pth"


def test_int8_features_take_half_of_the_room(sets, monkeypatch):
    best = fitting(len(sets[0].photos))[-1]
    half = replace(room_for(best, 4, sets), cached={})
    settings, _ = choose(sets, {"features": "int8"}, 1e6, monkeypatch, room=half)
    assert (settings.size[0], settings.views) == (best.size, 8)


def test_room_is_what_is_free_and_what_this_data_set_has(tmp_path, monkeypatch):
    photos = load(write_shapes(tmp_path / "VOC2012", train=3, val=1), "train")
    backbone = backbones.create("efficientnet_lite0", (32,), "random")
    root = tmp_path / "caches"
    for name in (photos.name, "another"):
        extract(photos, backbone, root / name / "train-1", size=(64, 64), engine="torch")
    (root / photos.name / "train-2").mkdir()
    (root / photos.name / "train-2" / "index.json").write_text("damaged")
    monkeypatch.setattr(planning, "free_bytes", lambda _folder: 1000)
    room = planning.room(root, photos.name)
    nbytes = sum(f.stat().st_size for f in (root / photos.name / "train-1").iterdir())
    assert room == Room(1000, {("efficientnet_lite0", (64, 64), "float16"): nbytes})
    assert room.bytes_for("efficientnet_lite0", (64, 64), "float16") == 1000 + nbytes
    assert room.bytes_for("efficientnet_lite0", (96, 96), "float16") == 1000


def test_elsewhere_there_is_room(monkeypatch, tmp_path):
    monkeypatch.setenv("FROSTBOX_REMOTE", str(tmp_path))
    assert planning.room(cache_root("memory://caches"), "any").free == math.inf


@pytest.mark.parametrize("name", ["epochs", "thaw_epochs", "patience"])
def test_what_a_budget_decides_cannot_be_given(sets, monkeypatch, name):
    with pytest.raises(SettingsError, match=f"a budget decides {name}"):
        choose(sets, {name: 3}, 600.0, monkeypatch)


def test_the_pace_is_measured_on_the_photos_at_hand(sets):
    train = sets[0].subset(list(sets[0].images)[:8])
    pace = measured_pace(train, "efficientnet_lite0", (320, 320), "cpu", "auto")
    assert 0 < pace.view < 10
    assert 0 < pace.step < 10
    assert 0 < pace.photo < 10


def test_photos_of_mosaics_are_paid_for():
    free = replace(PACE, photo=0.0)
    for recipe in RECIPES:
        views = recipe.enough_views(2500)
        mosaics = sum(isinstance(view, MosaicView) for view in first_views(views, (0, 0, 0)))
        more = recipe.seconds(PACE, 2500, 0) - recipe.seconds(free, 2500, 0)
        assert more == pytest.approx(2500 * mosaics * 3 * PACE.photo)
        assert recipe.views_within(600.0, PACE, 2500, 0) <= recipe.views_within(
            600.0, free, 2500, 0
        )
