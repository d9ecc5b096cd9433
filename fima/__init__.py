"""FIMA: Fine-grained Motion Alignment (Zhu et al., ACM MM 2023), usable without the ablation suite.

One module per noun: `config` holds every default, `model` the method, `pretrain` the loop, `evaluate` the protocols.
"""
