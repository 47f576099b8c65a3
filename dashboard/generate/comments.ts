// The comments of the contract, by what they stand above.
import type { DescEnumValue, DescField } from "@bufbuild/protobuf";
import type { DescriptorProto, EnumDescriptorProto, FileDescriptorSet } from "@bufbuild/protobuf/wkt";

// The numbers of the lists in descriptor.proto, of which the paths of comments are made.
const FILE_MESSAGES = 4;
const FILE_ENUMS = 5;
const MESSAGE_FIELDS = 2;
const MESSAGE_MESSAGES = 3;
const MESSAGE_ENUMS = 4;
const ENUM_VALUES = 2;

/** Looks up the comment above a field or an enum's value. */
export class Comments {
  readonly #texts = new Map<string, string>();

  constructor(files: FileDescriptorSet) {
    for (const file of files.file) {
      const paths = new Map<string, string>();
      for (const location of file.sourceCodeInfo?.location ?? []) {
        paths.set(location.path.join("."), location.leadingComments ?? "");
      }
      file.messageType.forEach((message, index) =>
        this.#message(message, file.package, `${FILE_MESSAGES}.${index}`, paths),
      );
      file.enumType.forEach((each, index) => this.#enum(each, file.package, `${FILE_ENUMS}.${index}`, paths));
    }
  }

  /** Return the comment as one paragraph, or "" without one. */
  of(desc: DescField | DescEnumValue): string {
    return this.#texts.get(`${desc.parent.typeName}.${desc.name}`) ?? "";
  }

  #message(message: DescriptorProto, scope: string, path: string, paths: ReadonlyMap<string, string>): void {
    const name = `${scope}.${message.name}`;
    message.field.forEach((field, index) =>
      this.#keep(`${name}.${field.name}`, paths.get(`${path}.${MESSAGE_FIELDS}.${index}`)),
    );
    message.nestedType.forEach((nested, index) =>
      this.#message(nested, name, `${path}.${MESSAGE_MESSAGES}.${index}`, paths),
    );
    message.enumType.forEach((each, index) => this.#enum(each, name, `${path}.${MESSAGE_ENUMS}.${index}`, paths));
  }

  #enum(each: EnumDescriptorProto, scope: string, path: string, paths: ReadonlyMap<string, string>): void {
    each.value.forEach((value, index) =>
      this.#keep(`${scope}.${each.name}.${value.name}`, paths.get(`${path}.${ENUM_VALUES}.${index}`)),
    );
  }

  #keep(name: string, comment: string | undefined): void {
    this.#texts.set(name, (comment ?? "").trim().replaceAll(/\s*\n\s*/g, " "));
  }
}
