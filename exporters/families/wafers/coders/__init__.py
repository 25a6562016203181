"""Encoders and decoders of wafers: nets, arithmetic of the chip, trainings."""
