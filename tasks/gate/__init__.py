"""Measures new scenes and judges them: by their metadata and by figures of their pixels."""
