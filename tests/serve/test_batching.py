"""The queue in front of the detector."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from frostbox import Detector
from frostbox.data.transforms import geometry
from frostbox.serve.batching import Batcher


@pytest.fixture
def detector(model: Path) -> Detector:
    return Detector.load(model)


def jobs(detector: Detector, count: int) -> list[torch.Tensor]:
    width, height = detector.settings.size
    rng = torch.Generator().manual_seed(0)
    return [
        torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=rng)
        for _ in range(count)
    ]


def test_what_waits_is_predicted_together_and_everybody_gets_his_own(
    detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, sizes, run = threading.Event(), [], detector.run

    def slowly(batch, engine=None):
        assert go.wait(10)
        return run(batch, engine)

    monkeypatch.setattr(detector, "run", slowly)
    batcher = Batcher(detector, 4, lambda pictures, _: sizes.append(pictures))
    size = detector.settings.size
    same = geometry("shrink", size, size)
    chosen = [detector.settings.selection.changed(threshold=t) for t in (0.1, 0.15)]
    pictures = jobs(detector, 7)
    answers = [batcher.submit(picture, same, chosen[k % 2]) for k, picture in enumerate(pictures)]
    cut_off = batcher.submit(pictures[0], same, chosen[0])
    assert cut_off.cancel()
    go.set()
    found = [answer.result(20) for answer in answers]
    batcher.close()
    assert not batcher.alive
    assert sizes[0] <= 4
    assert sorted(sizes)[-1] == 4
    assert sum(sizes) == 7
    for k, (picture, got) in enumerate(zip(pictures, found, strict=True)):
        expected = detector.predict(picture, threshold=chosen[k % 2].threshold)
        assert len(got) == len(expected)
        assert np.allclose(got.boxes, expected.boxes, atol=0.01)


def test_a_batch_that_fails_is_an_answer_too(
    detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    batcher = Batcher(detector, 4)
    size = detector.settings.size
    same, selection = geometry("shrink", size, size), detector.settings.selection
    (picture,) = jobs(detector, 1)
    with monkeypatch.context() as patch:
        patch.setattr(detector, "run", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            batcher.submit(picture, same, selection).result(10)
    assert len(batcher.submit(picture, same, selection).result(20)) > 0
    batcher.close()
