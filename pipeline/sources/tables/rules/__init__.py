"""The rules for columns of any format: what fits a column, and what happens to the rest."""
