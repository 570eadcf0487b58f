/* formats_examples FILE > NEW    docs/formats.md with its tables and examples written anew */
#include "tests/lib/page.h"
#include "tests/unit/formats/formats_examples.h"

int main(int argc, char **argv) {
    if (argc == 2) return page_print_filled(argv[1], formats_fill);
    fprintf(stderr, "usage: formats_examples FILE\n");
    return 2;
}
