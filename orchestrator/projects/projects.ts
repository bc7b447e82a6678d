/** The projects port: a project file becomes accounts, tasks and defaults for trials. */
import type { NewProject, Project, Task } from "../contract/projects.ts";

export interface Projects {
  /**
   * Makes or updates the project that the file describes, with its budget and tasks, all or
   * nothing. The total is funded once; a later, higher total tops it up by the difference.
   *
   * @throws Problem `invalid_request`, naming file, line and field.
   */
  apply(project: NewProject): Promise<Project>;
  list(): Promise<Project[]>;
  /** @throws Problem `not_found`. */
  get(name: string): Promise<Project>;
  tasks(name: string): Promise<Task[]>;
  /** Imports one task folder. @throws Problem `invalid_request`. */
  importTask(name: string, folder: string): Promise<Task>;
}
