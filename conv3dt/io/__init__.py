"""How do voxels come out of files and into them?  Sources and sinks know no plan and no layer."""
