"""Runs flows with lfx in processes that the Flowfleet worker supervises."""
