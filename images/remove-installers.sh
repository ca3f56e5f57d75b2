#!/bin/sh
# Takes out of the base image what installs packages for Python: nothing is installed in a container that runs.
set -eu
for prefix in /usr /usr/local; do
	rm -rf "$prefix"/bin/pip* "$prefix"/bin/wheel* "$prefix"/lib/python3*/ensurepip "$prefix"/share/python-wheels
	for packages in "$prefix"/lib/python3*/site-packages "$prefix"/lib/python3*/dist-packages; do
		rm -rf "$packages"/pip "$packages"/pip-* "$packages"/setuptools* "$packages"/wheel* "$packages"/pkg_resources \
			"$packages"/_distutils_hack "$packages"/distutils-precedence.pth
	done
done
