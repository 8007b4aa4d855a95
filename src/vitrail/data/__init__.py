"""What people arrive with, made into batches: data sets, augmentation, mixing, loading, and checks."""
