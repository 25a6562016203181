"""Archive of the trainings that the tables of the wafers compare."""
