"""What the container tests share: runtimes behind one command line, bundles, waiting, and finding what a test left behind."""
