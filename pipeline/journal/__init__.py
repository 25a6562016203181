"""What a recording says about a run: commit records, batch records, where to go on."""
