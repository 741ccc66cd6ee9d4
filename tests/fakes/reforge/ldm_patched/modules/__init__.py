"""The memory manager and the patcher."""
