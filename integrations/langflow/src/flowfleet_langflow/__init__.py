"""Hands the runs of a Langflow server to a Flowfleet fleet: ``LANGFLOW_EXECUTOR_KIND=flowfleet``."""

from flowfleet_langflow.executor import FlowfleetExecutor

__all__ = ["FlowfleetExecutor"]
