#include "engine/base/check.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void check_failed(const char *file, int line, const char *function, const char *what) {
    fprintf(stderr, "jumun: invariant broken: %s:%d: %s: %s\n", file, line, function, what);
    abort();
}
