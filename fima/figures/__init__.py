"""The paper's pictures, each a seeded function of checkpoints and videos, with its number and a caption that says both.

On its own:  python -m fima.figures runs/pretrain-... runs/pretrain-... --out pictures
"""
