"""
4. Features: look once, learn often
===================================

A picture of 224 x 224 pixels is 150,528 numbers, and none of them says *dog*. A network that has
learnt to name the photos of ImageNet, over a million of them, has had to find out what edges,
fur, wheels and ears look like. We take that knowledge as it is: the network becomes a **frozen
backbone**, which turns pictures into **features** and is never changed.

On this page: what the backbone makes of a picture, why its features know more than pixels do, and
why running it once is enough. This is the idea that frostbox is built on.
"""

# %%
# The backbone
# ------------
# EfficientNet-Lite0 is small and quick. Its last layers, which name ImageNet's thousand classes,
# are cut off; we keep the maps before them, at three **strides**. A map of stride 32 has one cell
# for every 32 x 32 pixels.

# sphinx_gallery_thumbnail_number = 3
import torch
from helper import WORK, data_folder, plot, show
from PIL import Image

from frostbox import backbones, data
from frostbox.data.photos import read_image
from frostbox.data.transforms import apply_image, geometry

backbone = backbones.create("efficientnet_lite0", out_strides=(8, 16, 32))
train = data.load(data_folder(), "train")


def pixels(image, size=(224, 224)):
    """The photo of an annotation, squeezed to `size`, as a uint8 tensor (3, 224, 224)."""
    return apply_image(
        read_image(image.photo), geometry("shrink", (image.width, image.height), size)
    )


picture = pixels(train.images[4])
with torch.no_grad():
    maps = backbone(backbone.normalise(picture[None]))
for stride, feature_map in zip(backbone.strides, maps, strict=True):
    _, channels, rows, columns = feature_map.shape
    print(f"stride {stride:2}: {rows:2} x {columns:2} cells of {channels:3} numbers each")

# %%
# **What you should see.** From map to map there are fewer cells that each know more. In 28 x 28
# cells a thing is well located and badly understood; in 7 x 7 it is the other way round. 7 x 7 is
# all that the next pages use, and page 10 is about why that is not enough.

assert [tuple(m.shape[2:]) for m in maps] == [(28, 28), (14, 14), (7, 7)]

figure, axes = plot(4, height=2.3)
axes[0].imshow(picture.permute(1, 2, 0))
axes[0].set_title("the picture")
for ax, stride, feature_map in zip(axes[1:], backbone.strides, maps, strict=True):
    ax.imshow(feature_map[0].abs().mean(0), cmap="magma")
    ax.set_title(f"stride {stride}")
for ax in axes:
    ax.set_axis_off()
show(figure)

# %%
# Bright cells are those in which the features are strong, on average over all channels. Every
# single channel has its own idea of what matters; here are twelve of the finest map:

figure, axes = plot(6, rows=2, height=1.4)
lively = maps[0][0].std((1, 2)).argsort(descending=True)[:12]
for ax, channel in zip(axes, lively.tolist(), strict=True):
    ax.imshow(maps[0][0, channel], cmap="magma")
    ax.set_title(f"channel {channel}", fontsize=8)
    ax.set_axis_off()
show(figure)

# %%
# What features know
# ------------------
# Cut the objects out of their pictures and let the backbone look at each. The average of its last
# map is a list of 320 numbers. For a few objects of the validation set, look for those of the
# training set whose lists point in the most similar direction (the cosine of the angle between
# them). Nothing has been trained on any of these pictures.

val = data.load(data_folder(), "val")


def cut_out(dataset, limit):
    """Pictures and names of the objects that are large and whole enough to be recognised."""
    crops, names = [], []
    for image in dataset.images:
        photo = Image.open(image.photo).convert("RGB")
        for obj in image.objects:
            small = min(obj.box[2] - obj.box[0], obj.box[3] - obj.box[1]) < 56
            if not (small or obj.occluded or obj.truncated) and len(crops) < limit:
                crops.append(photo.crop(obj.box).resize((112, 112)))
                names.append(obj.name)
    return crops, names


def described(crops):
    """(N, 320): what the backbone says of each crop, as directions of length 1."""
    from torchvision.transforms.v2.functional import pil_to_tensor

    batch = torch.stack([pil_to_tensor(crop) for crop in crops])
    with torch.no_grad():
        features = backbone(backbone.normalise(batch))[-1].mean((2, 3))
    return torch.nn.functional.normalize(features)


known, known_names = cut_out(train, 160)
asked, asked_names = cut_out(val, 40)
similarity = described(asked) @ described(known).T
nearest = similarity.topk(4).indices

rows = [
    next(k for k, n in enumerate(asked_names) if n == name) for name in dict.fromkeys(asked_names)
]
sheet, captions = [], []
for k in rows[:4]:
    sheet += [asked[k], *(known[j] for j in nearest[k].tolist())]
    captions += [f"{asked_names[k]} ?", *(known_names[j] for j in nearest[k].tolist())]
show(sheet, captions, columns=5)

# %%
# **What you should see.** In each row, on the left an object that is asked for, then the four
# that the features find most similar. Often they are of the same class, although they were drawn
# by another hand. How often, compared with guessing?

hits = [known_names[j] == asked_names[k] for k, row in enumerate(nearest.tolist()) for j in row]
chance = sum(known_names.count(n) / len(known_names) for n in asked_names) / len(asked_names)
print(f"of the same class: {sum(hits) / len(hits):.0%}, by guessing: {chance:.0%}")

assert sum(hits) / len(hits) > 1.5 * chance

# %%
# Frozen
# ------
# Frozen means that nothing in the backbone changes: no weight learns, and the running averages of
# its normalisation layers stand still even when somebody calls ``train()``. Many a "frozen"
# backbone drifts because that second half was forgotten.

backbone.train()
weights = sum(p.numel() for p in backbone.parameters())
print(f"{weights / 1e6:.1f} million weights, of which learn:", end=" ")
print(sum(p.numel() for p in backbone.parameters() if p.requires_grad))

assert not backbone.training
assert not any(p.requires_grad for p in backbone.parameters())

# %%
# So the features of a picture are the same today and tomorrow, and in every epoch of a training.
# There is no reason to compute them more than once.
#
# Once
# ----
# ``extract_save_features`` runs the backbone over a data set and writes the features with all
# targets into one file. The transform is what the backbone wants: its own mean and deviation.

import time

from torch.utils.data import DataLoader, Subset
from torchvision.transforms.v2.functional import pil_to_tensor

from frostbox.features import extract_save_features


def prepared(picture):
    """A PIL picture as the backbone wants it."""
    return backbone.normalise(pil_to_tensor(picture)[None])[0]


shrink = {"image_mode": "shrink", "output_image_size": {"width": 224, "height": 224}}
some, _ = data.make_trainval_dataset(
    data_folder(), shrink, prepared, {"target_mode": "largest_bbox"}
)
some = Subset(some, range(32))
started = time.perf_counter()
extract_save_features(DataLoader(some, batch_size=16), backbone, "cpu", WORK / "some.pt")
through_the_backbone = time.perf_counter() - started

# %%
# From then on an epoch reads that file, and the photos are not needed any more.

started = time.perf_counter()
stored = torch.load(WORK / "some.pt", weights_only=True)
from_the_file = time.perf_counter() - started
for name, tensor in stored.items():
    print(f"{name:9} {tuple(tensor.shape)}")
print(f"{through_the_backbone:.2f} s through the backbone, {from_the_file:.3f} s from the file")

assert stored["features"].shape == (32, 320, 7, 7)
assert from_the_file < through_the_backbone / 5

# %%
# **What you should see.** Reading is many times as fast. Twenty epochs through the backbone cost
# twenty times the first figure; with stored features, once the first and twenty times the second.
# That is the difference between a lunch break and a minute.
#
# The price: the pictures are always the same ones. A network learns more from a picture that it
# sees mirrored, zoomed and in other colours. So frostbox's own cache, which ``frostbox train``
# makes by itself, stores several **views** of each, in half the precision and read straight from
# disk.
#
# Try it
# ------
# * Use stride 8 instead of 32 for the nearest neighbours. Do its features know as much?
# * Create the backbone with ``weights="random"``. What is left of the similarity?
#
# Next: :doc:`05_one_object`, where something is finally learnt.
