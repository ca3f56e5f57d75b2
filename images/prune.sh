#!/bin/sh
# prune.sh ENVIRONMENT: leaves in a virtual environment what running needs. Licences and metadata stay.
# e2e/images shows that what is left still prepares, serves and draws.
set -eu
cd "$1"

# Tests of other people's packages; those of ONNX's backends are its largest part.
find . -type d \( -name tests -o -path '*/onnx/backend/test' \) -prune -exec rm -rf {} +
# What compilers and type checkers read.
find . -type f \( -name '*.pyi' -o -name '*.pxd' -o -name '*.pyx' -o -name '*.h' -o -name '*.hpp' -o -name '*.c' \
	-o -name '*.cc' -o -name '*.cpp' -o -name '*.a' -o -name '*.lib' \) -delete
# numpy's compiler drivers.
rm -rf lib/python*/site-packages/numpy/f2py lib/python*/site-packages/numpy/distutils bin/f2py bin/numpy-config
# Debug information. Only where there is some: not every library survives being written anew.
find . -name '*.so*' -type f | while read -r library; do
	if readelf --section-headers --wide "$library" | grep -q '\.debug_info'; then strip --strip-debug "$library"; fi
done
