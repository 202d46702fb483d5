"""
12. Thaw, ship, go on
=====================

So far the backbone has stayed as ImageNet made it. That was the point: everything was learnt in
seconds. But it has never seen these pictures, and its last layers know about whole photos rather
than about places in them. When the head is good, one may **thaw** the last stage of the backbone
and train it with the head.

On this page: what thawing buys, one file that predicts, COCO's format, and where to go from here.
"""

# %%
# Thaw the last stage
# -------------------
# The pyramid of page 10 goes on learning, and with it what lies between the maps of stride 16 and
# 32. That part starts from the map of stride 16, which is in the cache already: no photo is
# decoded again. The backbone learns more slowly than the head, so that it does not forget what it
# knows.

import torch
from helper import WORK, data_folder, plot, show, trained

import frostbox
from frostbox import Detector, data, evaluation

frozen = Detector.load(trained("10_scales"))
thawed = frostbox.train(
    data_folder(),
    start=str(trained("10_scales")),
    thaw="1",
    thaw_epochs=4,
    views=2,
    batch_size=16,
    device="cpu",
    out=WORK / "12_thaw",
    cache=WORK / "features",
    overwrite=True,
)
for name, one in (("frozen", frozen), ("thawed", thawed)):
    figures = one.settings.training["evaluation"]
    print(f"{name}: AP50 {figures['ap50']:.3f}, overlap {figures['mean_iou']:.3f}, ", end="")
    print(f"right class {figures['accuracy']:.0%}")

# %%
# **What you should see.** Some points more, or none: the stage is kept only when it lowers the
# loss on the validation set, otherwise frostbox says *it is undone*. On VOC's 2500 photos a
# thawed stage is worth some four points; on three hundred photos of VOC it lost at 416 pixels, and
# won with larger pictures and dropout (:doc:`/results`): few pictures are soon learned by heart.
#
# Is it better, or lucky?
# -----------------------

from frostbox.metrics.intervals import compare

val = data.load(data_folder(), "val")
arrays = []
for one in (thawed, frozen):
    predictions = evaluation.predict_photos(one, val)
    arrays.append(evaluation.detection_arrays(predictions))
truth = evaluation.truth_arrays(predictions.images, val)
outcome = compare(
    *arrays, truth, len(val.classes), len(predictions.images), rules=("ap50",), resamples=300
)["ap50"].mean
low, high = outcome.difference.low, outcome.difference.high
print(f"thawed minus frozen: {outcome.difference.value:+.3f} ({low:+.3f} to {high:+.3f})")

assert low <= outcome.difference.value <= high

# %%
# One file
# --------
# A trained detector is one file: weights of head and backbone, names of the classes, the size of
# the input, thresholds. It loads anywhere, and loading it runs no code.

path = thawed.save(WORK / "mine.safetensors")
detector = Detector.load(path)
print(f"{path.stat().st_size / 1e6:.1f} MB")

stored = detector.state_dict()
assert all(torch.equal(weight, stored[name]) for name, weight in thawed.state_dict().items())

# %%
# It predicts for one photo or for many, and gives boxes, scores and names for each.

from PIL import Image

photos = [image.photo for image in val.images[:4]]
found = detector.predict(photos)
show([one.draw(Image.open(photo).convert("RGB")) for photo, one in zip(photos, found, strict=True)])
most = max(found, key=len)
for row in most.to_dicts()[:5]:
    print(row)

assert len(most) > 0

# %%
# COCO
# ----
# The other great data set is **COCO**: 118,000 photos, 80 classes, many more small objects, and
# the strict AP of page 8. What changes on the way there is not the method but the amounts. Its
# result files are lists of boxes as corner and size, and frostbox writes and reads them: other
# tools can judge our detections, and ``frostbox evaluate`` judges theirs.

result = most.to_coco(image_id=1)[0]
print(result)

x, y, width, height = result["bbox"]
assert abs(x + width - float(most.boxes[0, 2])) < 1e-3
assert abs(y + height - float(most.boxes[0, 3])) < 1e-3

# %%
# The ladder you have climbed
# ---------------------------
# The same steps on the real VOC2007, trained on 2500 photos of ``train`` and measured on ``val``,
# on two cores of a laptop's kind (:doc:`/results`):

LADDER = {
    "grid, 7 x 7": 13.0,
    "the same with a neck": 17.3,
    "anchors": 49.5,
    "pyramid": 57.8,
    "last stage thawed": 61.4,
    "larger backbone, 384 pixels": 69.4,
    "30 minutes": 71.3,
}
figure, (ax,) = plot(height=3)
names = list(LADDER)[::-1]
bars = ax.barh(names, [LADDER[name] for name in names], color="#4363d8")
ax.bar_label(bars, fmt="%.1f", padding=4, fontsize=9)
ax.set(xlabel="AP50 on VOC2007 val", xlim=(0, 80))
show(figure)

assert list(LADDER.values()) == sorted(LADDER.values())

# %%
# **What you should see.** The largest step is the one from the grid to anchors on several maps
# (pages 9 and 10): how the question is put. After that, patience.
#
# Try it
# ------
# * Thaw two stages (``thaw="2"``). Is it worth its time?
# * Run any page with ``VOCDEVKIT`` set, on real photos.
#
# Your own photos
# ---------------
# All of the course in a few lines of a shell. DATA may be in VOC's, COCO's or YOLO's format. The
# second line takes the time that you have and chooses backbone, size, views, thawing and epochs
# for it::
#
#     frostbox doctor   DATA
#     frostbox train    DATA --budget 10min --out runs/first
#     frostbox evaluate runs/first DATA --report report.html
#     frostbox predict  runs/first photos/*.jpg --out found
#
# Where to go on:
#
# * :doc:`/usage` has every step of that with its options;
# * :doc:`/results` says what was tried and what did not help, with the commands to repeat it;
# * :doc:`/architecture` shows how the package is built, and how to add a head of your own: one file
#   with five methods, of which you now know every one.
