# The AVX2 that QEMU 7.2 emulates ends numpy's sorts of a thousand numbers with a segmentation fault. So numpy does without it in
# an emulated machine: AVX2 and FMA3 are the names of what it leaves out before numpy 2.4, X86_V3 since then. The processor
# keeps AVX2, since some packages (vowpalwabbit) need it.
if grep --quiet TCG /proc/cpuinfo; then
    export NPY_DISABLE_CPU_FEATURES="${NPY_DISABLE_CPU_FEATURES-AVX2 FMA3 X86_V3}"
fi
