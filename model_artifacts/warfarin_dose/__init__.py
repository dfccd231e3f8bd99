"""Weekly warfarin dose at steady INR, from age, size, drugs and, where known, CYP2C9 and VKORC1 genotypes."""
