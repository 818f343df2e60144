"""``python -m conv3dt_cli``: the same as ``conv3dt``."""

from .main import main

if __name__ == "__main__":
    main()
