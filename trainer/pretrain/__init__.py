"""Representations from synthetic images: StableRep (Tian et al. 2023), SimCLR and SupCon."""
