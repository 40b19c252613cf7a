import { BadRequestException, ForbiddenException, Inject, Injectable, NotFoundException } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { Repository } from 'typeorm';

import { isDuplicate } from '../database/errors.js';
import { Page } from './page.entity.js';
import { type PageInput, SLUG } from './pages.schemas.js';

export const RESERVED_SLUGS = Symbol('names that no page may take');

@Injectable()
export class PagesService {
  constructor(
    @InjectRepository(Page) private readonly pages: Repository<Page>,
    @Inject(RESERVED_SLUGS) private readonly reserved: string[],
  ) {}

  list(ownerId: number): Promise<Page[]> {
    const select = { slug: true, title: true, createdAt: true, updatedAt: true };
    return this.pages.find({ select, where: { ownerId }, order: { updatedAt: 'DESC' }, take: 500 });
  }

  async read(slug: string): Promise<Page> {
    const page = SLUG.test(slug) ? await this.pages.findOneBy({ slug }) : null;
    if (!page) throw new NotFoundException(`There is no page ${slug.slice(0, 63)}`);
    return page;
  }

  /** Creates the page, or changes it when it is the owner's. */
  async save(ownerId: number, slug: string, input: PageInput): Promise<Page> {
    if (this.reserved.includes(slug)) throw new BadRequestException(`The name ${slug} is taken by a service`);
    if (!(await this.update(ownerId, slug, input))) {
      try {
        await this.pages.insert({ slug, ownerId, ...input });
      } catch (error) {
        if (!isDuplicate(error)) throw error;
        // It exists: somebody else's, or made by the same user in this very moment.
        if (!(await this.update(ownerId, slug, input))) {
          throw new ForbiddenException(`The page ${slug} belongs to somebody else`);
        }
      }
    }
    return this.read(slug);
  }

  private async update(ownerId: number, slug: string, input: PageInput): Promise<boolean> {
    const { affected } = await this.pages.update({ slug, ownerId }, input);
    return affected === 1;
  }
}
