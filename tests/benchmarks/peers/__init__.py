"""Scripts that conv3dt is measured against; run as they are."""
