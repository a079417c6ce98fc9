"""Name the five likeliest classes of a photograph, the cat in scikit-image's collection.

python examples/classify_image.py

For images of your own: python -m budgetnets classify IMAGE...
"""

import sys

import torch
from PIL import Image

import budgetnets

try:
    from skimage.data import cat
except ImportError:
    sys.exit("the photograph is in scikit-image: pip install 'budgetnets[demo]'")

model = budgetnets.create("resnet9_cifar", pretrained=True)  # in eval mode, its weights' hash checked
transform = budgetnets.transforms(model)  # resizes, scales to 0..1 and normalizes
images = transform(Image.fromarray(cat())).unsqueeze(0)  # (1, 3, 32, 32)
with torch.inference_mode():
    probabilities = model(images).softmax(1)[0]  # (1, 10) -> (10,)
shares, places = probabilities.topk(5)
answers = zip(places.tolist(), shares.tolist(), strict=True)
print("the cat: " + ", ".join(f"{model.class_names[place]} {share:.1%}" for place, share in answers))
