"""
2. Image modes: how photos get one size
=======================================

Photos have any size. A network computes on a **batch**: many images stacked into one block of
numbers, which only works when all have the same size. And its maps shrink by steps of two, five
times, so sides are multiples of 32: 224 is 7 x 32.

There are three classic ways to bring a photo there, and each costs something. On this page: see
all of them, see where the boxes go, and save the result to disk to look at it.
"""

# %%
# A data set of pictures
# ----------------------
# ``make_trainval_dataset`` gives a training and a validation set of pairs ``(image, target)``.
# What happens to the image is the ``image_mode``; what the target is, the ``target_mode``. First
# nothing at all: the picture as it is, and the XML as a dictionary of text.

from helper import WORK, data_folder, show, voc

from frostbox.data import make_trainval_dataset

folder = data_folder()
original = {"image_mode": "none"}
train, valid = make_trainval_dataset(folder, original, None, {"target_mode": "orig"})
image, target = train[4]
print(len(train), "and", len(valid), "images; the fifth is", image.size, image.mode)
print("its first object:", target["annotation"]["object"][0]["name"])

# %%
# Three modes
# -----------
# **shrink** squeezes the whole photo into the size that is asked for, whatever its shape.
# **crop** cuts it out of the middle. **letterbox** scales evenly and fills the rest with grey.

size = {"width": 224, "height": 224}
modes = {
    "none": original,
    "shrink": {"image_mode": "shrink", "output_image_size": size},
    "crop": {"image_mode": "crop", "output_image_size": size},
    "letterbox": {"image_mode": "letterbox", "output_image_size": size},
}
pictures = {}
for name, params in modes.items():
    train, _ = make_trainval_dataset(folder, params, None, {"target_mode": "orig"})
    pictures[name], _ = train[4]
    print(f"{name:10} {pictures[name].size[0]} x {pictures[name].size[1]} pixels")

assert all(pictures[name].size == (224, 224) for name in ("shrink", "crop", "letterbox"))

# %%
# Saved to disk
# -------------
# The third argument is the ``transform``: a function that turns each picture into what the
# network takes, as a tensor. With ``None`` you get the picture itself, and can save it and look
# at it with anything. Do that before every training: most bugs of a data pipeline are seen in a
# second and searched for in logs for days.

saved = WORK / "modes"
saved.mkdir(parents=True, exist_ok=True)
for name, picture in pictures.items():
    picture.save(saved / f"{name}.png")
print(sorted(path.name for path in saved.iterdir()))

# %%
# Where the boxes go
# ------------------
# Whatever is done to the picture must be done to its boxes. In frostbox one object, the
# ``Geometry``, moves both: pixels are scaled, then shifted, and so are the corners of the boxes.

import torch

from frostbox.data.transforms import geometry
from frostbox.draw import draw_boxes

annotation = train.images[4]
boxes = torch.tensor([obj.box for obj in annotation.objects])
names = [obj.name for obj in annotation.objects]


def moved(mode):
    """The picture in that mode with its boxes, which may reach over its border."""
    geo = geometry(mode, (annotation.width, annotation.height), (224, 224))
    return draw_boxes(pictures[mode], geo.apply(boxes), names, fit=(360, 360))


show([moved(mode) for mode in modes], list(modes))

# %%
# **What you should see.** *none* and *shrink* show the same things; in *shrink* everything is a
# bit too slim, and the network has to recognise a slim dog. *crop* keeps the shape and loses what
# lies at the border. *letterbox* loses nothing and wastes some of the pixels on grey.
#
# frostbox shrinks by default: nothing is lost, all pixels are used, and training and prediction
# squeeze alike. For photos four times as wide as high, take the letterbox.
#
# In numbers: shrink divides the sides by their own factors, crop moves the corner to the left and
# up.

shrink = geometry("shrink", (500, 442), (224, 224))
crop = geometry("crop", (500, 442), (224, 224))
box = torch.tensor([[53.0, 87.0, 471.0, 420.0]])
print("shrink", shrink.apply(box).round(decimals=1).tolist())
print("crop  ", crop.apply(box).round(decimals=1).tolist())

assert torch.allclose(shrink.apply(box), box * torch.tensor([224 / 500, 224 / 442] * 2))
assert torch.allclose(crop.apply(box), box - torch.tensor([138, 109] * 2))

# %%
# And back again: what a network finds in its 224 x 224 pixels has to be told in pixels of the
# photo.

assert torch.allclose(crop.invert(crop.apply(box)), box)
assert torch.allclose(shrink.invert(shrink.apply(box)), box, atol=1e-4)

# %%
# What a crop costs
# -----------------
# How many objects does the crop cut away altogether? And how many images have none left?

from frostbox.data import load
from frostbox.data.targets import encode_objects, preprocess_target
from frostbox.data.voc import read_annotation


def without_a_box(dataset, side):
    """How many images keep no box at all in the middle `side` x `side` pixels."""
    empty = 0
    for one in dataset.images:
        crop = geometry("crop", (one.width, one.height), (side, side))
        tree = preprocess_target(read_annotation(one.source))
        empty += not encode_objects(tree, dataset.classes, crop)
    return empty


learnt_from = load(folder, "train")
for side in (224, 96, 32):
    count = without_a_box(learnt_from, side)
    print(f"crop of {side:3}: {count} of {len(learnt_from)} images keep no box")

# %%
# **What you should see.** The smaller the crop, the more images are left with nothing to learn
# from. In VOC2012, 185 of the 11540 photos keep no box in the middle 224 x 224 pixels, which is
# the published number; where ``VOCDEVKIT`` has VOC2012 it is counted again here.

if voc("VOC2012"):
    assert without_a_box(load(voc("VOC2012"), "trainval"), 224) == 185

# %%
# Try it
# ------
# * Ask for 320 x 160 pixels instead. Which mode suffers most?
# * Save the first hundred pictures in *crop* mode and flip through them: how many would you still
#   recognise?
#
# Next: :doc:`03_largest_object`, the simplest detector there is.
