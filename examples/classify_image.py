"""Name the five likeliest classes of each image; without one, of the cat in scikit-image's collection.

python examples/classify_image.py photo.jpg another.png --model resnet9_cifar
"""

import argparse
import sys

import torch
from PIL import Image, ImageOps

import budgetnets


def demo_image():
    try:
        from skimage.data import cat
    except ImportError:
        sys.exit("without an IMAGE this shows scikit-image's cat: pip install 'budgetnets[demo]', or name a file")
    return Image.fromarray(cat())


@torch.inference_mode()
def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("images", nargs="*", metavar="IMAGE")
    p.add_argument("--model", default="resnet9_cifar", help="a variant with weights, or local-dir: and a folder")
    args = p.parse_args()
    try:
        model = budgetnets.create(args.model, pretrained=True)
    except (ValueError, RuntimeError, OSError) as error:  # an unknown name, no weights, no such folder
        sys.exit(f"--model {args.model}: {error}")
    if not model.num_classes:
        sys.exit(f"--model {args.model} has no classifier (num_classes=0); give a network that has one")
    transform, status = budgetnets.transforms(model), 0
    names = model.class_names or [f"class {i}" for i in range(model.num_classes)]
    for path in args.images or ["the cat"]:
        try:
            image = ImageOps.exif_transpose(Image.open(path)) if args.images else demo_image()  # transposed: upright
            batch = transform(image).unsqueeze(0)  # (1, 3, 32, 32)
        except Exception as error:  # a decoder may raise anything on damaged bytes
            print(f"{path} cannot be read as an image ({error}); use a file such as a JPEG or PNG", file=sys.stderr)
            status = 2
            continue
        top = model(batch).softmax(1)[0].topk(min(5, len(names)))  # (1, classes) -> the five largest and their places
        shares, places = top.values.tolist(), top.indices.tolist()
        print(f"{path}: " + ", ".join(f"{names[i]} {share:.1%}" for i, share in zip(places, shares, strict=True)))
    return status


if __name__ == "__main__":
    sys.exit(main())
