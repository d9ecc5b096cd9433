"""What a pre-trained encoder is worth: linear probe, fine-tuning, retrieval (section 4.1, appendix A.4)."""
