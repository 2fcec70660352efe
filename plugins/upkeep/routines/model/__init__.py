"""Care for machine-learning models: the data that they are asked about, their answers, their files."""
