"""FIMA: Fine-grained Motion Alignment (Zhu et al., ACM MM 2023), usable without the ablation suite.

Modules in the order in which a step goes through them:

settings   `config`: every default, once; `options`: YAML and command line
videos     `layouts`, `datasets`: official layouts as one list of records; `check`: whether they decode
           `synthetic`, `drawing`: the embedded videos; `video`, `indices`: decoding exactly the frames asked for
           `decoded`: small sets decoded once, for all processes
samples    `clips`: which frames; `augment`, `background`, `views`: what is done to them
method     `model`: all of it on one page; `backbones`, `decoder`, `geometry`, `foreground`, `negatives`, `losses`
training   `pretrain`: the loop; `loop`, `compute`, `distributed`: schedules and checkpoints, arithmetic, ranks
           `cost`: parameters and FLOPs
use        `evaluate`: probe, fine-tuning, retrieval, kNN, bias; `figures`: the paper's pictures
"""
