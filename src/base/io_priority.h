// <linux/ioprio.h>, ioprio_set(2), for C++: since 6.1.191 Debian's has a parameter named `class`.
#pragma once

#define class class_
#include <linux/ioprio.h>
#undef class
