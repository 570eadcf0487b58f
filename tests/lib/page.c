#include "tests/lib/page.h"

#include <stdlib.h>
#include <string.h>

#include "engine/base/check.h"

enum { PAGE_NAME_BYTES_MAX = 100 };

static const struct page_block *page_block_of(const char *line, const struct page_block *blocks,
                                              size_t count) {
    for (size_t i = 0; i < count; i++)
        if (strncmp(line, blocks[i].opening, strlen(blocks[i].opening)) == 0) return &blocks[i];
    return NULL;
}

/* Fills the block whose opening line is `line`; NULL = good, else what is wrong with it. */
static const char *page_fill_block(FILE *out, const struct page_block *block, const char *line,
                                   size_t size, const char *behind, const char **close,
                                   char name[PAGE_NAME_BYTES_MAX]) {
    size_t opening = strlen(block->opening);
    snprintf(name, PAGE_NAME_BYTES_MAX, "%.*s", (int)(size - opening), line + opening);
    char *comment = strstr(name, " -->");
    if (comment != NULL) *comment = '\0';
    *close = strstr(behind, block->closing);
    if (*close == NULL) return "has no end";
    return block->write(out, name) ? NULL : "names no example";
}

char *page_fill(const char *page, const struct page_block *blocks, size_t blocks_count,
                char *error, size_t error_bytes) {
    char *filled = NULL, name[PAGE_NAME_BYTES_MAX];
    size_t filled_bytes = 0;
    FILE *out = open_memstream(&filled, &filled_bytes);
    require(out != NULL);
    const char *fault = NULL;
    while (fault == NULL && *page != '\0') {
        const char *end = strchr(page, '\n'), *close;
        size_t size = end != NULL ? (size_t)(end - page) : strlen(page);
        const struct page_block *block = page_block_of(page, blocks, blocks_count);
        fprintf(out, "%.*s%s", (int)size, page, end != NULL ? "\n" : "");
        const char *behind = page + size + (end != NULL);
        if (block != NULL) {
            fault = page_fill_block(out, block, page, size, behind, &close, name);
            behind = close;
        }
        page = behind;
    }
    fclose(out);
    if (fault == NULL) return filled;
    snprintf(error, error_bytes, "block \"%s\" %s", name, fault);
    free(filled);
    return NULL;
}

char *page_read(const char *path) {
    FILE *in = fopen(path, "rb");
    if (in == NULL) return NULL;
    char *text = NULL;
    size_t size = 0;
    if (getdelim(&text, &size, '\0', in) < 0) {
        free(text);
        text = NULL;
    }
    fclose(in);
    return text;
}

int page_print_filled(const char *path, char *(*fill)(const char *page, char *error,
                                                      size_t error_bytes)) {
    char error[256] = "cannot be read";
    char *page = page_read(path);
    char *filled = page != NULL ? fill(page, error, sizeof error) : NULL;
    if (filled == NULL) fprintf(stderr, "%s: %s\n", path, error);
    else fputs(filled, stdout);
    int rv = filled != NULL ? 0 : 1;
    free(filled);
    free(page);
    return rv;
}

void page_print_hex(FILE *out, const void *bytes, size_t size, size_t columns) {
    const uint8_t *at = bytes;
    for (size_t i = 0; i < size; i++)
        fprintf(out, "%02x%s", at[i], i + 1 == size || (i + 1) % columns == 0 ? "\n" : " ");
}
