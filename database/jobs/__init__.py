"""What a build has to do: which architectures, as which jobs, claimed and driven to their end."""
