"""The run folder: plain files, the one contract between training and analysis."""
