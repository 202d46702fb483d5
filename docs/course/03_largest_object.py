"""
3. The largest object: a box as four numbers
============================================

An image may show any number of objects, and a network's last layer has a fixed number of outputs.
That is the central difficulty of detection. The first way out is to ask for less: **one** box and
**one** class, those of the largest object. Then four numbers and a class are enough.

On this page: which object is the largest, how a box becomes four numbers that a network likes to
predict, and the tensors that it learns from, with the published example to the digit.
"""

# %%
# The published example
# ---------------------
# The first training image of VOC2012 shows a person on a horse. Its photo is not needed here,
# only its annotation (page 1).

from helper import ANNOTATION, data_folder, show

from frostbox import data
from frostbox.data.targets import preprocess_target
from frostbox.data.voc import read_annotation

tree = preprocess_target(read_annotation(ANNOTATION))
width, height = tree["annotation"]["size"]["width"], tree["annotation"]["size"]["height"]
for obj in tree["annotation"]["object"]:
    print(f"{obj['name']:7} {obj['bndbox']}")

# %%
# Centre and size
# ---------------
# Corners in pixels are a poor target. They depend on how large the photo is, and the four of them
# change together when an object moves. So a box is written as its **centre** and its **size**,
# both divided by the width and height of the image: four numbers between 0 and 1.

box = tree["annotation"]["object"][0]["bndbox"]
by_hand = {
    "cx": (box["xmin"] + box["xmax"]) / 2 / width,
    "cy": (box["ymin"] + box["ymax"]) / 2 / height,
    "width": (box["xmax"] - box["xmin"]) / width,
    "height": (box["ymax"] - box["ymin"]) / height,
}
print(by_hand)

# %%
# The library does the same for all objects of an annotation, after whatever was done to the
# picture (page 2), and turns names into numbers: a class is its index in the list of classes.

from pprint import pprint

from frostbox.data.targets import encode_objects
from frostbox.data.transforms import geometry

print(list(enumerate(data.classes))[:8], "...")
objects = encode_objects(tree, data.classes, geometry("none", (width, height)))
pprint(objects, sort_dicts=False)

# %%
# **What you should see**, as it was published, to the digit::
#
#     [{'bndbox': {'cx': 0.524, 'cy': 0.5735294117647058,
#                  'width': 0.836, 'height': 0.753393665158371}, 'class': 5},
#      {'bndbox': {'cx': 0.447, 'cy': 0.23868778280542988,
#                  'width': 0.262, 'height': 0.27828054298642535}, 'class': 0}]

HORSE = {"cx": 0.524, "cy": 0.5735294117647058, "width": 0.836, "height": 0.753393665158371}
PERSON = {"cx": 0.447, "cy": 0.23868778280542988, "width": 0.262, "height": 0.27828054298642535}


def same(found, published):
    """Equal up to the last digit of a double."""
    return all(abs(found[key] - value) < 1e-15 for key, value in published.items())


assert same(objects[0]["bndbox"], HORSE)
assert same(objects[1]["bndbox"], PERSON)
assert same(by_hand, HORSE)
assert [obj["class"] for obj in objects] == [5, 0]

# %%
# (The classic functions take VOC's whole numbers as they stand, without the shift by one pixel of
# page 1, because the published example does.)
#
# Squeezing the picture to 224 x 224 changes none of these numbers. That is what they are for.

squeezed = encode_objects(tree, data.classes, geometry("shrink", (width, height), (224, 224)))
assert all(abs(squeezed[0]["bndbox"][key] - HORSE[key]) < 1e-12 for key in HORSE)

# %%
# The largest one
# ---------------
# By area of the box; of two equal ones, the first.

largest = data.filter_largest(objects)
print("largest:", data.classes[largest["class"]])
target = data.target_to_tensor(largest)
print(target)

# %%
# **What you should see**, again as published: ``bboxes`` 0.5240, 0.5735, 0.8360, 0.7534 and
# ``labels`` 5, the horse.

import torch

assert [round(v, 4) for v in target["bboxes"].tolist()] == [0.5240, 0.5735, 0.8360, 0.7534]
assert torch.equal(target["labels"], torch.tensor([5]))

# %%
# On our pictures
# ---------------
# The data set does all this by itself with ``target_mode`` *largest_bbox*. Where a crop leaves no
# box, the image is left out: there would be nothing to learn.

from frostbox.draw import draw_boxes

folder = data_folder()
shrink = {"image_mode": "shrink", "output_image_size": {"width": 224, "height": 224}}
largest_box = {"target_mode": "largest_bbox"}
train, valid = data.make_trainval_dataset(folder, shrink, None, largest_box)
print(len(train), "images,", len(valid), "to be examined on")
print(train[4][1])

# %%
# To look at a target, undo the encoding: from centre and size back to corners, times the pixels.

from torchvision.ops import box_convert


def with_target(picture, target):
    """The picture with the one box of its target."""
    corners = box_convert(target["bboxes"], "cxcywh", "xyxy") * 224
    name = data.classes[int(target["labels"])]
    return draw_boxes(picture, corners[None], [name], fit=(360, 360))


show([with_target(*train[k]) for k in range(4)])

# %%
# **What you should see.** One box an image, round the largest object, although others are there.
# A detector that learns from these targets must learn to ignore all the rest.
#
# In batches
# ----------
# PyTorch's ``DataLoader`` stacks the pairs, now with a transform that makes a tensor of each
# picture.

from torch.utils.data import DataLoader
from torchvision.transforms.v2.functional import pil_to_tensor

train, _ = data.make_trainval_dataset(folder, shrink, pil_to_tensor, largest_box)
images, targets = next(iter(DataLoader(train, batch_size=8)))
print("images", tuple(images.shape), images.dtype)
print("bboxes", tuple(targets["bboxes"].shape), "labels", tuple(targets["labels"].shape))

assert images.shape == (8, 3, 224, 224)
assert targets["bboxes"].shape == (8, 4)
assert ((targets["bboxes"] >= 0) & (targets["bboxes"] <= 1)).all()

# %%
# Try it
# ------
# * Take *crop* of 128 x 128 pixels. In how many images is another object the largest one now?
# * Write the function that undoes ``target_to_tensor`` for a photo of any size.
#
# Next: :doc:`04_features`, what the network sees in these pixels.
