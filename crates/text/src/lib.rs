//! CLIP and T5 text encoders for Burn, with their tokenizers.
