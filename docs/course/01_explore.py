"""
1. Explore: what is in the data
===============================

A **detector** looks at a photo and answers with boxes: *a dog is here, and I am 0.87 sure.*
Nobody writes down rules for what a dog looks like. People draw boxes on some thousand photos, and
the detector learns from them. So before any network is trained, look at the boxes.

Ours come in the layout of **Pascal VOC**, the data set on which detectors grew up: a folder of
photos, one XML file of boxes for each, and lists that say which photos are for learning.

On this page: read the annotations, look at them on the pictures, and count: sizes, classes, what
occurs together, what is marked difficult. Ten minutes here save hours later.
"""

# %%
# Two splits
# ----------
# The course runs on drawn scenes that frostbox makes itself, with exact boxes and six of VOC's
# twenty classes. Where the environment variable ``VOCDEVKIT`` names a folder with the real
# VOC2007, the same pages run on some of its photos instead.

from helper import ANNOTATION, CLASSES, data_folder, plot, show, voc

from frostbox import data

folder = data_folder()
train, val = data.load(folder, "train"), data.load(folder, "val")
print(f"{len(train)} images to learn from, {len(val)} to be examined on")

# %%
# **What you should see.** Two lists without a common image. A network is never examined on what
# it has learnt from: it could have learnt it by heart.

assert not {image.image_id for image in train.images} & {image.image_id for image in val.images}

# %%
# One annotation
# --------------
# This is all a detector is ever told about an image: its size, and for each object a name, four
# whole numbers and some flags.

xml = train.images[0].source.read_text()
print(xml.split("</object>")[0] + "</object>\n\t...")

# %%
# VOC counts pixels from 1 and includes the last one: ``xmin`` 1 and ``xmax`` 8 are eight pixels.
# frostbox counts from 0 and takes a box as a rectangle with real corners, so ``xmin`` and
# ``ymin`` lose 1 when they are read. It sounds like a trifle and costs some tools whole points of
# accuracy: :doc:`another page </boxes>` puts one XML through five loaders.

first = train.images[0]
for obj in first.objects:
    print(f"{obj.name:10} {obj.box}")

# %%
# On the pictures
# ---------------
# Look at the boxes where they belong. Dashed ones are marked *difficult*: so small, hidden or cut
# off that VOC does not ask anybody to find them.

from PIL import Image

from frostbox.draw import draw_boxes


def with_boxes(image):
    """The picture of an annotation with its ground truth."""
    picture = Image.open(image.photo).convert("RGB")
    boxes, names = [obj.box for obj in image.objects], [obj.name for obj in image.objects]
    flags = [obj.difficult for obj in image.objects]
    return draw_boxes(picture, boxes, names, dashed=flags, fit=(360, 270))


some = train.images[:6]
show([with_boxes(image) for image in some], [image.image_id for image in some])

# %%
# **What you should see.** Every box touches its object on all four sides. The boxes are called
# **ground truth**: whatever they say is right by definition, and a detector can only become as
# good as they are. In your own data, look at a hundred of them first (``frostbox doctor`` finds
# those that cannot be right).
#
# How large, how many
# -------------------

from frostbox.data.explore import explore

stats = explore(train)
print(f"{stats['objects']} objects, {stats['mean_boxes_per_image']:.2f} an image")
print(f"{stats['difficult']} difficult, {stats['truncated']} cut off by the border")

figure, (left, right) = plot(2)
sizes = stats["relative_box_sizes"]["histogram"]
left.bar(sizes["edges"][:-1], sizes["counts"], width=0.09, align="edge", color="#4363d8")
left.set(xlabel="square root of box area / image area", ylabel="objects", title="how large")
numbers = {int(k): v for k, v in stats["boxes_per_image"].items()}
right.bar(list(numbers), list(numbers.values()), color="#f58231")
right.set(xlabel="objects in the image", ylabel="images", title="how many")
show(figure)

# %%
# **What you should see.** Most objects are small: half as wide as the image is already a rarity.
# That one histogram decides much of what follows. A method that finds only large things can look
# fine on a few pictures and miss most of what is there (page 10).

assert sum(sizes["counts"]) == stats["objects"]

# %%
# Which classes, and which together
# ---------------------------------

import numpy as np

from frostbox.data.patterns import patterns

rows = [train.classes.index(name) for name in CLASSES]
together = np.array(patterns(train)["cooccurrence"])[np.ix_(rows, rows)]
figure, (left, right) = plot(2, height=3.4)
counts = [stats["objects_per_class"][name] for name in CLASSES]
left.barh(CLASSES[::-1], counts[::-1], color="#4363d8")
left.set(xlabel="objects", title="classes")
right.imshow(together, cmap="Blues")
for i, j in np.ndindex(*together.shape):
    ink = "white" if together[i, j] > 0.7 * together.max() else "black"
    right.text(j, i, together[i, j], ha="center", va="center", fontsize=8, color=ink)
right.set_xticks(range(6), CLASSES, rotation=40, ha="right")
right.set_yticks(range(6), CLASSES)
right.set_title("images that show both")
show(figure)

# %%
# **What you should see.** On the right, each number counts the images that show both classes (on
# the diagonal: two or more of one). Boats come with birds and aeroplanes, cars with dogs: a
# network may learn that too, and then misses the boat on a lawn. On the left, persons are the
# most frequent class, here and in the real VOC, where one object in three is a person. A class
# with few examples is learnt worse, and the mean over classes (page 8) counts it as much as any
# other.

assert max(CLASSES, key=lambda name: stats["objects_per_class"][name]) == "person"

# %%
# The real VOC2012
# ----------------
# These are the counts of its training list, 5717 photos, as they were published. Where
# ``VOCDEVKIT`` has VOC2012 they are counted again and compared; for that its XML files are
# enough.

table = """
aeroplane 470    bicycle 410     bird 592     boat 508        bottle 749    bus 317    car 1191
cat 609          chair 1457      cow 355      diningtable 373 dog 768       horse 377
motorbike 375    person 5019     pottedplant 557              sheep 509     sofa 399
train 327        tvmonitor 412
"""
words = table.split()
published = {name: int(count) for name, count in zip(words[::2], words[1::2], strict=True)}
edges = [111, 149.9, 188.8, 227.7, 266.6, 305.5, 344.4, 383.3, 422.2, 461.1, 500]
widths = [1, 2, 5, 11, 43, 334, 607, 100, 55, 4559]
heights = [4, 15, 30, 51, 138, 1348, 2765, 181, 70, 1115]
if voc("VOC2012"):
    counted = explore(data.load(voc("VOC2012"), "train"))
    assert counted["objects_per_class"] == published
    assert counted["width_histogram"] == {"edges": edges, "counts": widths}
    assert counted["height_histogram"] == {"edges": edges, "counts": heights}

figure, (left, right) = plot(2, height=4.2)
order = sorted(published, key=published.get)
left.barh(order, [published[name] for name in order], color="#4363d8")
left.set(xlabel="objects", title="VOC2012 train: classes")
left.tick_params(labelsize=8)
bar = np.diff(edges) * 0.45
right.bar(edges[:-1], widths, bar, align="edge", label="width", color="#4363d8")
right.bar(edges[:-1] + bar, heights, bar, align="edge", label="height", color="#f58231")
right.set(xlabel="pixels", ylabel="photos", title="sizes of the photos")
right.legend(frameon=False)
show(figure)

# %%
# **What you should see.** No photo is wider or higher than 500 pixels, and four in five are 500
# wide: they were scaled so. Heights have two peaks, at 333 to 375 for photos taken across and at
# 500 for those taken upright. A network wants all its images of one size: page 2 is about how
# they get it.
#
# A note on errata
# ----------------
# The first training image of VOC2012 is printed in many courses as nested dictionary, with
# numbers as numbers and flags as flags. The published listing says ``'segmented': True``. The XML
# says 0:

from pprint import pprint

from frostbox.data.targets import preprocess_target
from frostbox.data.voc import read_annotation

tree = read_annotation(ANNOTATION)
print(repr(tree["annotation"]["segmented"]), "->", bool(tree["annotation"]["segmented"]))

# %%
# In XML everything is text, and in Python any text that is not empty counts as true, ``"0"`` too.
# frostbox reads the flag, so here it is False; everything else agrees to the digit.

annotation = preprocess_target(tree)["annotation"]
pprint(annotation, sort_dicts=False)

assert annotation["segmented"] is False
assert annotation["size"] == {"width": 500, "height": 442, "depth": 3}
assert [obj["name"] for obj in annotation["object"]] == ["horse", "person"]
if voc("VOC2012"):
    original = voc("VOC2012") / "Annotations" / ANNOTATION.name
    assert preprocess_target(read_annotation(original)) == preprocess_target(tree)

# %%
# On your own data
# ----------------
# Everything on this page, for a data set in VOC's, COCO's or YOLO's format, as a page in a
# browser::
#
#     frostbox explore DATA --split train --report data.html
#     frostbox doctor DATA
#
# Try it
# ------
# * Which objects are marked difficult? Show the pictures that have one.
# * Plot width over height of all boxes (``stats["aspect_ratios"]``). Which classes are wide?
#
# Next: :doc:`02_image_modes`.
