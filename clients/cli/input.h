/* Text files, plain or gzip'd, read as lines or as CSV rows (RFC 4180).
 *
 * CSV: fields may stand in double quotes, a quote inside is doubled, quoted fields may hold commas
 * and line breaks; CRLF and LF end a row; a UTF-8 byte order mark is skipped; empty lines are
 * skipped. Errors are sentences that name the line. Not thread-safe. */
#ifndef JUMUN_CLI_INPUT_H
#define JUMUN_CLI_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { INPUT_FIELDS_MAX = 64, INPUT_ROW_BYTES_MAX = 4 << 20 };

struct input {
    void *file;               /* gzFile; NULL when the text lies in memory */
    const char *name;         /* for messages; borrowed */
    const char *memory;       /* borrowed */
    size_t memory_bytes;
    uint64_t file_bytes;      /* on disk; 0 = unknown (a pipe) */
    uint64_t line;            /* 1-based, of the row read last: where it began */
    uint64_t next_line;
    char *buffer;             /* chunk read from the file */
    size_t buffer_at, buffer_used;
    char *row;                /* the row, its fields terminated one after another */
    size_t row_used, row_capacity;
    char *fields[INPUT_FIELDS_MAX];
    uint32_t fields_count;
    bool failed;              /* the file itself could not be read on */
};

enum input_result { INPUT_ROW, INPUT_END, INPUT_BAD };

/* `path` may be "-" for standard input. False with a sentence in `error`. */
bool input_open(struct input *input, const char *path, char *error, size_t error_bytes);
/* Reads text that lies in memory; `text` stays the caller's. */
bool input_open_memory(struct input *input, const char *text, size_t bytes);
void input_close(struct input *input);

/* The next CSV row into input->fields; they may be changed and live until the next read. After
 * INPUT_BAD (`error` tells which line and why) reading goes on with the next row, unless
 * input->failed: then the file is at its end. */
enum input_result input_csv_row(struct input *input, char *error, size_t error_bytes);

/* The next line without its end into input->row (row_used bytes, terminated); skips empty lines. */
enum input_result input_text_line(struct input *input, char *error, size_t error_bytes);

/* Everything that is left into input->row. INPUT_END when there is nothing. */
enum input_result input_rest(struct input *input, char *error, size_t error_bytes);

/* Share of the file that was read, 0 .. 1; negative when unknown. */
double input_share(const struct input *input);

#endif
