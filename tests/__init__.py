"""Does conv3dt keep its promises?  One file a module or command; oracle files hold the definition, as loops."""
