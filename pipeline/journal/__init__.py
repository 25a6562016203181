"""Journal: commit records, batch records and the resume point of a run, in its recording."""
