/* Part of decls.h: headers and prototypes for the rows of calls_extra.h. */
