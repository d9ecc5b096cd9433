"""The ablation suite around `fima`: a study in YAML becomes stages, a store, MLflow runs and tables."""
