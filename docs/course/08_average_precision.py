"""
8. Average precision: how good is a detector?
=============================================

A classifier is right or wrong. A detector can miss an object, find one that is not there, find
one twice, or put the box askew, and everything depends on the threshold of the score. **Average
precision** (AP) makes one number of all that. Every paper quotes it, and hardly any two compute
it alike, so it is worth doing once by hand.

On this page: hits and misses, precision and recall, AP by both rules of VOC and by that of COCO,
what *difficult* means there, and how much of a score is luck.
"""

# %%
# Hit, false alarm, miss
# ----------------------
# All detections of one class are taken by falling score, over all images. One is a **hit** when
# it overlaps an object of its class by an IoU of at least 0.5, and nobody has hit that object
# before. All else is a **false positive**, a double too. An object that nobody hits is a
# **miss**.
#
# Two objects, three detections: a hit, a false positive, a hit.

# sphinx_gallery_thumbnail_number = 2
import numpy as np
from helper import CLASSES, data_folder, plot, show, trained

from frostbox.metrics import voc

truth = voc.Boxes.join([np.array([[0, 0, 10, 10], [20, 20, 30, 30]])], [np.array([0, 0])])
found = voc.Boxes.join(
    [np.array([[0, 0, 10, 9], [40, 40, 50, 50], [21, 20, 30, 30]])],
    [np.array([0, 0, 0])],
    scores=[np.array([0.9, 0.8, 0.7])],
)
hits = voc.assign(found, truth, num_classes=1).hit
print("hits:", hits.tolist())

# %%
# **Precision** is the share of the detections that are right, **recall** the share of the objects
# that are found. Going down the list, recall can only rise; precision goes up and down.

precision = np.cumsum(hits) / np.arange(1, 4)
recall = np.cumsum(hits) / 2
for n in range(3):
    print(f"after {n + 1}: precision {precision[n]:.3f}, recall {recall[n]:.1f}")

# %%
# AP is the area under precision over recall. VOC first replaces precision by the best that is
# still reached at that recall or a higher one (the *envelope*); then from 2010 on it took the
# area, and until 2007 the mean at the eleven recalls 0, 0.1, ... 1.

envelope = np.maximum.accumulate(precision[::-1])[::-1]
area = 0.5 * envelope[0] + 0.5 * envelope[2]
eleven = np.mean([1] * 6 + [2 / 3] * 5)
print(f"area {area:.4f} (5/6), at eleven recalls {eleven:.4f}")

result = voc.evaluate(found, truth, num_classes=1).classes[0]
assert abs(result.ap - area) < 1e-12
assert abs(area - 5 / 6) < 1e-12
assert abs(result.ap_11point - eleven) < 1e-12

figure, (ax,) = plot(height=2.8)
ax.step([0, 0.5, 1], [1, 1, 2 / 3], color="#4363d8", label="envelope: its area is AP")
ax.fill_between([0, 0.5, 1], [1, 1, 2 / 3], step="pre", alpha=0.15, color="#4363d8")
ax.plot(recall, precision, "o", color="#e6194b", label="after each detection")
ax.set(xlabel="recall", ylabel="precision", xlim=(0, 1.05), ylim=(0, 1.08))
ax.legend(frameon=False, loc="lower left")
show(figure)

# %%
# The grid, examined
# ------------------
# The detector of page 6 on the whole validation set. For AP nearly all boxes count, down to a
# score of 0.001: a box with a low score comes late in the list and does no harm unless better
# ones are missing.

from frostbox import Detector, data, evaluation

detector = Detector.load(trained("06_grid"))
val = data.load(data_folder(), "val")
predictions = evaluation.predict_photos(detector, val)
result = evaluation.voc_result(predictions, val)

figure, axes = plot(3, rows=2, height=2.1)
for ax, name in zip(axes, CLASSES, strict=True):
    one = result.classes[val.classes.index(name)]
    ax.plot(one.recall, one.precision, color="#4363d8")
    ax.set(xlim=(0, 1), ylim=(0, 1.02))
    ax.set_title(f"{name}: AP {100 * one.ap:.1f}", fontsize=10)
for ax in axes[::3]:
    ax.set_ylabel("precision")
for ax in axes[3:]:
    ax.set_xlabel("recall")
show(figure)
print(
    f"mean over classes: AP50 {result.mean_ap:.3f}, at eleven recalls {result.mean_ap_11point:.3f}"
)

# %%
# **What you should see.** Curves that start well on the left, for the few boxes the detector is
# sure of, and break off long before full recall: most objects are never found, whatever the
# threshold. The mean over classes is the **mAP** of the papers, here at IoU 0.5. It is low, and
# the next pages raise it.

assert 0 < result.mean_ap < 1

# %%
# Difficult objects
# -----------------
# VOC does not ask anybody to find what is marked difficult. Such an object is *neither hit nor
# miss*: whoever finds it gains nothing and loses nothing. Tools that drop these objects turn each
# find into a false positive; tools that treat them as ordinary turn each into a possible miss.

from dataclasses import replace

detections = evaluation.detection_arrays(predictions)
truth = evaluation.truth_arrays(predictions.images, val)
ordinary = replace(truth, difficult=np.zeros_like(truth.difficult))
dropped = voc.take(truth, np.flatnonzero(~truth.difficult))
print(f"{truth.difficult.sum()} of {len(truth.label)} objects are difficult")
for what, objects in (("ignored", truth), ("ordinary", ordinary), ("dropped", dropped)):
    print(f"{what:9} AP50 {voc.evaluate(detections, objects, len(val.classes)).mean_ap:.4f}")

# %%
# COCO's rule
# -----------
# COCO asks for more: the mean over ten IoU thresholds, 0.50, 0.55, ... 0.95. A detector whose
# boxes are only roughly right gets a good AP50 and a poor COCO AP. It also reports AP by the size
# of the objects, in pixels: small below 32 x 32, large above 96 x 96.

from frostbox.metrics.coco import Evaluation

sizes = [(image.width, image.height) for image in predictions.images]
coco = Evaluation(detections, truth, sizes, val.classes).summary
for name in ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"):
    value = getattr(coco, name)
    print(f"{name:10} {'no such object' if value is None else f'{value:.3f}'}")

assert coco.ap < coco.ap50

# %%
# **What you should see.** COCO's AP is a fraction of its AP50, and that is nearly VOC's AP50
# (they differ in how the area is measured, at 101 recalls). So a number without its rule means
# nothing. frostbox prints the rule beside every AP.
#
# How much of it is luck?
# -----------------------
# The validation set has few images. With other images the number would be another one. How much
# it might differ can be estimated from these images alone: draw as many of them, *with
# repetition*, compute AP, and do that a thousand times. That is the **bootstrap**.

from frostbox.metrics.intervals import bootstrap

interval = bootstrap(
    detections, truth, len(val.classes), len(sizes), rules=("ap50",), resamples=300
)
mean = interval["ap50"].mean
print(f"AP50 {mean.value:.3f}, in 95 of 100 resamples between {mean.low:.3f} and {mean.high:.3f}")

assert mean.low < mean.value < mean.high

# %%
# **What you should see.** A wide interval. Two detectors whose numbers differ by less than that
# may well be equally good; ``frostbox compare`` says how sure one can be. All that is on this
# page, for any detector, as a page in the browser with the mistakes as pictures::
#
#     frostbox evaluate RUN DATA --report report.html
#
# Try it
# ------
# * Swap the scores of the first two detections of the small example. What is AP now?
# * Add a hundred wrong boxes with score 0.01 to the grid's detections. What happens to AP, and
#   why?
#
# Next: :doc:`09_anchors`, and a number that is worth more.
