"""The subcommands of ``swath``, one file each."""
