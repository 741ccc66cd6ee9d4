"""Thousands of jobs from one file: resumable, on one machine or on many."""
