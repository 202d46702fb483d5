"""What streams, and what is kept when it is stopped."""

from __future__ import annotations

from frostbox import predicting
from frostbox.predicting import Wanted, predict
from frostbox.video import Frames
from tests.films import grey, read_film, write_film
from tests.test_detector import make


def test_few_frames_wait_and_what_was_done_is_kept(tmp_path, monkeypatch):
    decoded = []
    decode = Frames._decode

    def counted(self):
        for frame in decode(self):
            decoded.append(frame.number)
            yield frame

    monkeypatch.setattr(Frames, "_decode", counted)
    monkeypatch.setattr(predicting, "_BATCH_BYTES", 2 * 3 * 64 * 48)
    model = make().save(tmp_path / "model.safetensors")
    film = write_film(tmp_path / "film.mp4", grey(40))
    entries = predict(model, [film], Wanted(tmp_path / "out"))
    seen = [next(entries)["frame"] for _ in range(5)]
    assert seen == [0, 1, 2, 3, 4]
    assert len(decoded) <= 4 + 3 * 2 + 1  # two frames a batch; one in hand, one ahead, one begun
    entries.close()
    assert len(read_film(tmp_path / "out" / "film.mp4")[0]) == 5
